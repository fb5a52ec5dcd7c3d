"""A board without hardware: the golden model behind the frames, on a line that may err."""

import os
import pty
import select
import threading
import time
import tty
from contextlib import contextmanager

import numpy as np
import torch

from sw import protocol
from sw.cycles import layer_cycles
from sw.framing import QUIET_SECONDS, Receiver, frame_reply
from sw.golden import IntegerNetwork
from sw.packing import pad_to
from sw.program import Region, compile_program, region_words
from sw.protocol import Flags, Opcode, Status

__all__ = ["Board", "FaultyPort", "on_a_pty"]


class Board:
    """The device's end, for an engine without strips and passes and a network without shortcuts.

    image: what its layers compute, if it is what the memories hold. Else the logits are nonsense.
    """

    def __init__(self, engine, image):
        self.engine, self.image, self.program = engine, image, compile_program(image, engine)
        self.golden, self.known = IntegerNetwork(image), {}
        self.runs = self.writes = 0
        self.reset()

    def reset(self):
        self.receiver, sizes = Receiver(), region_words(self.engine)
        self.memory = {region: np.zeros(words, np.uint16) for region, words in sizes.items()}
        # Of a stem core: the frame whose spikes it left on each side, and whose mean.
        self.stems, self.mean, self.frame, self.cycles = [None, None], None, None, 0

    def take(self, octets):
        """Bytes sent when these come; None is a quiet line."""
        return b"".join(
            frame_reply(sequence, self._answer(command, again))
            for octet in octets for sequence, command, again in self.receiver.take(octet)
        )

    def _answer(self, command, again):
        if command is None:
            return bytes([Status.ORDER])
        opcode, region = command[0] & 0x0F, command[1]
        address = int.from_bytes(command[2:5], "little")
        count = int.from_bytes(command[5:7], "little")
        if opcode == Opcode.INFO:
            return bytes([Status.OK]) + protocol.encode_info(self.engine)
        if opcode not in (Opcode.WRITE, Opcode.READ, Opcode.RUN):
            return bytes([Status.UNKNOWN])
        memory = self.memory.get(region if opcode == Opcode.WRITE else Region.SPIKES, ())
        if address + count > len(memory):
            return bytes([Status.RANGE])
        if opcode == Opcode.WRITE:
            self.writes += 1
            memory[address : address + count] = np.frombuffer(command[8:], "<u2")
            return bytes([Status.OK])
        if opcode == Opcode.RUN and not again:
            self.runs += 1
            self.cycles = self._run(command[1], command[7], Flags(command[0] >> 4))
        head = self.cycles.to_bytes(4, "little") if opcode == Opcode.RUN else b""
        return bytes([Status.OK]) + head + memory[address : address + count].tobytes()

    def _run(self, first, count, flags):
        side, cycles, ran = int(Flags.SIDE in flags), 0, 0
        stem = self.engine.stem and not self.image.network.coded
        before = 1 if stem or self.image.network.coded else 0
        layers = range(before, len(self.image.network.layers))
        for index in layers[first : first + count]:
            if index == before:
                self.frame = self._held()
                if stem:
                    self.frame = self.stems[side] if self.stems[side] == self.mean else None
            self._leave(index, self.frame, side)
            cycles += self._cycles(index)
        if Flags.STEM in flags:
            to = int(Flags.STEM_SIDE in flags)
            self.stems[to] = self.mean = self._held()
            self._leave(0, self.mean, to)
            ran = self._cycles(0)
        return max(cycles, ran)

    def _cycles(self, index):
        return layer_cycles(
            self.image.network, index, self.engine, self.image.gain_mode == "exact"
        )

    def _held(self):
        """The bytes of the frame that the memories hold; None if the network is not there."""
        for region, words in self.program.regions.items():
            if not np.array_equal(self.memory[region][: len(words)], words):
                return None
        network = self.image.network
        if network.coded:
            address, words = self.program.boundary_words(0)
            maps = self.program.unpack_boundary(0, self.memory[Region.SPIKES][address:][:words])
            return maps.tobytes()
        return self.memory[Region.FRAME].tobytes()[: network.input.size]

    def _leave(self, index, frame, side):
        """What a layer makes of a frame goes to the spike memory; nonsense of None."""
        network, last = self.image.network, len(self.image.network.layers) - 1
        if frame not in self.known:
            size = network.input
            octets = np.frombuffer(frame or bytes(network.input.size), np.uint8)
            if network.coded:
                pixels = octets.reshape(1, *network.frame_shape)
            else:
                pixels = octets.reshape(1, size.height, size.width, size.channels)
                pixels = pixels.transpose(0, 3, 1, 2).copy()
            logits, boundaries = self.golden(torch.as_tensor(pixels.copy()), record=True)
            maps = [self._map(boundary.spikes[:, 0].numpy()) for boundary in boundaries]
            self.known[frame] = [*maps, self._logits(logits[0].numpy() + (frame is None))]
        words = self.known[frame][index]
        bank = self.engine.simd * self.engine.lanes // 16
        if side:
            words = words.reshape(-1, bank)[::-1].ravel()
        address, count = self.program.boundary_words(index, side)
        assert len(words) == count, f"layer {index} of {last}"
        self.memory[Region.SPIKES][address : address + count] = words

    def _map(self, spikes):
        maps = np.transpose(spikes, (2, 3, 1, 0))
        maps = pad_to(pad_to(maps, 2, self.engine.simd, 0), 3, self.engine.lanes, 0)
        return np.packbits(maps, bitorder="little").view("<u2")

    def _logits(self, logits):
        units, bank = self.engine.units, self.engine.simd * self.engine.lanes // 16
        values = pad_to(logits.astype("<i4"), 0, units, 0).view("<u2").reshape(-1, 2 * units)
        return np.pad(values, ((0, 0), (0, bank - 2 * units))).ravel()


class FaultyPort:
    """A serial port with a board behind it, in a time of its own (``now``), without waiting.

    faults: share of writes and of replies that go wrong, each in one of many ways. resets: share of
    writes before which the board is reset.
    """

    baudrate, timeout, write_timeout, name = 1_000_000, None, None, "faulty"

    def __init__(self, board, faults=0.0, resets=0.0, seed=0):
        self.board, self.faults, self.resets = board, faults, resets
        self.random = np.random.default_rng(seed)
        self.now, self.arrived, self.late, self.happened = 0.0, b"", [], set()

    def write(self, octets):
        if self.random.random() < self.resets:
            self.board.reset()
        reply = self.board.take(self._garble(octets, "to"))
        if reply:
            reply = self._garble(reply, "from")
        if reply and self._errs("late"):
            self.late.append((self.now + self.random.uniform(0, 0.3), reply))
        else:
            self.arrived += reply
        return len(octets)

    def read(self, count):
        if len(self.arrived) < count:
            self.now += self.timeout
            self.board.take([None])
            for entry in [entry for entry in self.late if entry[0] <= self.now]:
                self.late.remove(entry)
                self.arrived += entry[1]
        octets, self.arrived = self.arrived[:count], self.arrived[count:]
        return octets

    def close(self):
        pass

    def _errs(self, kind):
        if self.random.random() >= self.faults / 2:
            return False
        self.happened.add(kind)
        return True

    def _garble(self, octets, way):
        if not self._errs(way):
            return octets
        octets, place = bytearray(octets), int(self.random.integers(len(octets)))
        kind = self.random.choice([
            "flip", "flip", "noise", "lose", "cut", "double", "swap", "vanish", "twice",
        ])
        self.happened.add(str(kind))
        if kind == "flip":
            octets[place] ^= 1 << int(self.random.integers(8))
        elif kind == "noise":
            octets[place:place] = self.random.bytes(3)
        elif kind == "lose":
            del octets[place]
        elif kind == "cut":
            del octets[place:]
        elif kind == "double":
            octets.insert(place, octets[place])
        elif kind == "swap":
            octets[place - 1], octets[place] = octets[place], octets[place - 1]
        elif kind == "vanish":
            octets.clear()
        elif kind == "twice":
            octets = octets * 2
        return bytes(octets)


@contextmanager
def on_a_pty(board, delay=0.0):
    """The name of a serial port that has a board behind it. delay: seconds before each reply."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    done = threading.Event()

    def serve():
        while not done.is_set():
            ready, _, _ = select.select([ours], [], [], QUIET_SECONDS)
            reply = board.take(os.read(ours, 4096) if ready else [None])
            if reply:
                time.sleep(delay)
                os.write(ours, reply)

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield os.ttyname(theirs)
    finally:
        done.set()
        server.join()
        os.close(ours)
        os.close(theirs)

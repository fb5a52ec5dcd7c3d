"""The accelerator on a board, from Python: load a network, send frames, get logits and spikes.

>>> with Accelerator.open("/dev/ttyUSB1") as accelerator:          # doctest: +SKIP
...     accelerator.load(image.load("models/digits.bsnn"))
...     print(accelerator.infer(frame).label)
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from sw.host.link import TIMEOUT, LinkError, LostSession, connect
from sw.program import compile_program, stamp_address
from sw.protocol import (
    BLOCK_WORDS,
    check_status,
    decode_info,
    decode_run,
    decode_words,
    encode_read,
    encode_writes,
)

__all__ = ["Accelerator", "Inference", "LayerTrace"]

#: How often work is begun again after a reset of the device.
RESETS = 3


@dataclass(frozen=True, eq=False)
class Inference:
    """logits: int32 ``[classes]``. cycles: clock cycles, as ``sw.cycles.cycles_per_frame``."""

    logits: np.ndarray
    cycles: int

    @property
    def label(self):
        """Number of the class with the largest logit, the first if several have it."""
        return int(np.argmax(self.logits))


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """What left a layer. spikes: uint8 ``[T, C, H, W]``, after pooling. cycles: that it took."""

    name: str
    spikes: np.ndarray
    cycles: int

    @property
    def count(self):
        """Spikes of all time steps."""
        return int(self.spikes.sum())

    @property
    def rate(self):
        """Firing rate: spikes of a neuron and time step, 0 to 1."""
        return float(self.spikes.mean())


class Accelerator:
    """A board with an open session.

    engine: what its bitstream holds. program: what is loaded, None before ``load``.

    Methods raise LinkError when the board is gone for good. If it was only reset, they load the
    network again and begin the frame again.
    """

    def __init__(self, link, info):
        """link: a Link with an open session. info: the reply to its INFO."""
        self.link, self.engine = link, decode_info(info)
        self.program = None
        # Where a stem works ahead: the words of the frame whose spikes it has left, on which side.
        self._staged, self._side = None, 0

    @classmethod
    def open(cls, port=None, baud=None, timeout=TIMEOUT):
        """The accelerator at a serial port. Raises LinkError, and ProtocolError if it is too old.

        port: name; None is the only one there is. baud: bits a second; None finds out. timeout:
        seconds for a reply.
        """
        link, info = connect(port, baud, timeout)
        try:
            return cls(link, info)
        except BaseException:
            link.close()
            raise

    def close(self):
        self.link.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def loaded(self, image):
        """Whether the device holds this image, from this session or an earlier one."""
        return self._recover(partial(self._holds, compile_program(image, self.engine).stamp))

    def load(self, image, force=False, progress=False):
        """Writes an image to the device. Returns False where it was there already.

        force: write it even so. progress: show a bar on a terminal. Raises EngineError if the
        network does not fit the engine.
        """
        program = compile_program(image, self.engine)
        self.program = self._staged = None

        def write():
            if not force and self._holds(program.stamp):
                return False
            self._write_program(program, progress)
            return True

        written = self._recover(write)
        self.program = program
        return written

    def infer(self, frame):
        """The Inference of one frame, uint8 ``network.frame_shape``."""
        return next(self.stream([frame]))

    def stream(self, frames):
        """Yields the Inference of every frame, in order.

        A frame is taken when the one before is done; where a stem works ahead (``Program.ahead``),
        one earlier.
        """
        program = self._loaded_program()
        packed = map(program.pack_frame, frames)
        words = next(packed, None)
        while words is not None:
            following = next(packed, None) if program.ahead else None
            yield self._recover(partial(self._turn, words, following))
            words = following if program.ahead else next(packed, None)

    def trace(self, frame):
        """Runs one frame layer by layer: a list of LayerTrace, and the Inference.

        The cycles are those of all layers, one after the other. Of events and pixels, the first
        trace is what the host has sent.
        """
        words = self._loaded_program().pack_frame(frame)
        return self._recover(partial(self._trace, words))

    def write(self, frame):
        """Sends a frame and does not run it. With ``run``, for measurements of either."""
        self._write_frame(self._loaded_program().pack_frame(frame))

    def run(self):
        """The Inference of what the device holds. Where a stem works ahead, of its last spikes."""
        program, cycles = self._loaded_program(), 0
        if program.has_stem_core and not program.ahead:
            cycles, _ = self._run(program.run_layer(0))
        side = self._side if program.ahead else 0
        self._staged = None
        spent, words = self._run(program.run_network(side))
        self._side = 1 - side
        logits = program.unpack_boundary(len(program.network.layers) - 1, words, side)
        return Inference(logits, cycles + spent)

    def _turn(self, words, following):
        ahead, staged = self.program.ahead, self._staged is words
        if not staged:
            self._write_frame(words)
            if ahead:
                self._run(self.program.run_layer(0))
                self._side = 0
        if following is not None:
            self._write_frame(following)
        result = self.run()
        self._staged = following
        return result

    def _trace(self, words):
        program, traces, total = self.program, [], 0
        network = program.network
        self._staged = None
        self._write_frame(words)
        for index in range(len(network.layers)):
            cycles = 0
            if index or not network.coded:
                cycles, _ = self._run(program.run_layer(index))
            output = program.unpack_boundary(index, self._read(*program.boundary_words(index)))
            total += cycles
            traces.append(LayerTrace(network.layer_name(index), output, cycles))
        return traces[:-1], Inference(traces[-1].spikes, total)

    def _loaded_program(self):
        if self.program is None:
            raise LinkError("the device has no network: load one first")
        return self.program

    def _recover(self, work):
        """What ``work()`` returns; after a reset of the device it is begun again."""
        lost = False
        for _ in range(1 + RESETS):
            try:
                if lost:
                    self._restore()
                return work()
            except LostSession:
                lost = True
        raise LinkError(f"the device was reset {1 + RESETS} times in a row: check its power supply")

    def _restore(self):
        engine = decode_info(self.link.open())
        if engine != self.engine:
            raise LinkError("the device has another bitstream now: open it again")
        self._staged = None
        if self.program is not None and not self._holds(self.program.stamp):
            self._write_program(self.program, progress=False)

    def _holds(self, stamp):
        return np.array_equal(self._read(stamp_address(self.engine), len(stamp)), stamp)

    def _write_program(self, program, progress):
        commands = list(program.load_commands())
        # None: only on a terminal.
        off = None if progress else True
        total = sum(map(len, commands))
        with tqdm(total=total, desc="load", unit="B", unit_scale=True, disable=off) as bar:
            for command in commands:
                check_status(self.link.ask(command))
                bar.update(len(command))
        if not self._holds(program.stamp):
            raise LinkError("the device does not keep what is written: load its bitstream again")

    def _write_frame(self, words):
        program = self.program
        for command in encode_writes(
            program.frame_region, program.frame_address, words, BLOCK_WORDS
        ):
            check_status(self.link.ask(command))

    def _read(self, address, count):
        end = address + count
        parts = [
            decode_words(self.link.ask(encode_read(start, min(BLOCK_WORDS, end - start))))
            for start in range(address, end, BLOCK_WORDS)
        ]
        return np.concatenate(parts)

    def _run(self, command):
        """(cycles, words) of a run."""
        return decode_run(self.link.ask(command))

"""Commands and replies of the accelerator's byte port, for host, simulation and hardware.

A command has eight bytes, little endian; the data of a WRITE follow. A reply is a status byte, then
data.

==============================  =======================================================
byte 0, low half                ``Opcode``
byte 0, high half               ``Flags``, of a RUN
byte 1                          ``Region`` of a WRITE, first layer of a RUN
bytes 2 to 4                    address of a WRITE, a READ, and what a RUN sends
bytes 5 and 6                   words of these
byte 7                          number of layers of a RUN
==============================  =======================================================

========  ==============================================================================
INFO      replies with ``INFO_BYTES``: version and shape of the engine
WRITE     has its words, 2 bytes each, behind it
READ      replies with words of the SPIKES region, 2 bytes each
RUN       replies with the clock cycles of the run, 4 bytes, then words as a READ does
========  ==============================================================================

Addresses count 16-bit words. An unknown opcode is answered by ``UNKNOWN``. ``RANGE`` answers a
write or a read beyond the end of a memory (of a write, the words inside are written and the rest
dropped; a read has no data, and a run does not start), a run beyond the program memory, a run of
nothing, and flags on an engine without a stem core. With one, layers count from the first after the
stem. ``ORDER`` answers a frame that is out of order (``sw.framing``).
"""

import struct
from dataclasses import replace
from enum import IntEnum, IntFlag

import numpy as np

from sw.engine import Engine

__all__ = [
    "BLOCK_WORDS",
    "COMMAND_BYTES",
    "INFO",
    "INFO_BYTES",
    "VERSION",
    "WORDS_MAX",
    "Flags",
    "Opcode",
    "ProtocolError",
    "Status",
    "check_status",
    "data_bytes",
    "decode_info",
    "decode_run",
    "decode_words",
    "encode_info",
    "encode_read",
    "encode_run",
    "encode_write",
    "encode_writes",
    "reply_bytes",
]

VERSION = 4

COMMAND_BYTES = 8

#: Words of one WRITE or READ, at most and as the host sends them: an error costs a block.
WORDS_MAX, BLOCK_WORDS = 0xFFFF, 1024


class Opcode(IntEnum):
    INFO = 0x01
    WRITE = 0x02
    READ = 0x03
    RUN = 0x04


class Status(IntEnum):
    OK = 0x00
    UNKNOWN = 0x01
    RANGE = 0x02
    ORDER = 0x03


class Flags(IntFlag):
    """Of a run on an engine with a stem core: which side of the spike memory holds the frame.

    SIDE: of the layers that run. STEM: run the stem too, at the same time, for a frame whose spikes
    go to STEM_SIDE; where layers run as well, that must be the other side, and the map must fit
    there (``Program.ahead``).
    """

    SIDE = 1
    STEM = 2
    STEM_SIDE = 4


class ProtocolError(RuntimeError):
    """The device answered with an error, or with something that is no answer."""


_INFO = struct.Struct("<BBBBBBBBBIIIIIBBIII")
INFO_BYTES = _INFO.size


def encode_info(engine):
    """The INFO data of an engine: what the hardware holds as a constant."""
    return _INFO.pack(
        VERSION, engine.pe, engine.simd, engine.lanes, engine.units, engine.layer_depth,
        engine.current_width,
        sum(1 << shift for shift in engine.leak_shifts),
        engine.deep | (engine.pixels.bit_length() - 1) << 1 | (engine.passes.bit_length() - 1) << 4,
        engine.weight_depth, engine.spike_depth, engine.frame_depth, engine.channel_depth,
        engine.mean_depth,
        *(engine.stem.sizes.values() if engine.stem else (0, 0, 0, 0, engine.stream_depth)),
    )


def check_status(reply):
    """The data of a reply. Raises ProtocolError unless its status is OK."""
    if not reply:
        raise ProtocolError("no reply from the device")
    if reply[0] != Status.OK:
        known = {status.value: status.name for status in Status}
        raise ProtocolError(f"the device answered {known.get(reply[0], hex(reply[0]))}")
    return reply[1:]


def decode_info(reply):
    data = check_status(reply)
    # The version first: others have other lengths.
    if data and data[0] != VERSION:
        raise ProtocolError(f"the device speaks protocol {data[0]}, this host {VERSION}")
    if len(data) != INFO_BYTES:
        raise ProtocolError(f"the device sent {len(data)} bytes of INFO, not {INFO_BYTES}")
    _, pe, simd, lanes, units, layers, width, leaks, form, *sizes = _INFO.unpack(data)
    names = ("weight_depth", "spike_depth", "frame_depth", "channel_depth", "mean_depth")
    engine = Engine(
        pe=pe, simd=simd, lanes=lanes, units=units, layer_depth=layers, current_width=width,
        leak_shifts=[shift for shift in range(8) if leaks >> shift & 1], deep=bool(form & 1),
        pixels=1 << (form >> 1 & 7), passes=1 << (form >> 4),
        **dict(zip(names, sizes[:5], strict=True)),
    )
    if not sizes[5]:
        return replace(engine, stream_depth=sizes[-1])
    stem = engine.stem_core(**dict(zip(engine.sizes, sizes[5:], strict=True)))
    return replace(engine, stem=stem)


def _command(opcode, *, flags=0, region=0, address=0, words=0, count=0):
    if not 0 <= words <= WORDS_MAX:
        raise ProtocolError(f"{words} words in one command: at most {WORDS_MAX}")
    if flags >> 4:
        raise ProtocolError(f"flags {flags:#x}: four bits at most")
    return (
        bytes([opcode | flags << 4, region]) + int(address).to_bytes(3, "little")
        + int(words).to_bytes(2, "little") + bytes([count])
    )


#: The command that asks for ``encode_info``.
INFO = _command(Opcode.INFO)


def encode_write(region, address, words):
    """One WRITE, of at most ``WORDS_MAX`` words."""
    data = np.asarray(words, dtype="<u2")
    return _command(Opcode.WRITE, region=region, address=address, words=len(data)) + data.tobytes()


def encode_writes(region, address, words, size=WORDS_MAX):
    """WRITEs of ``size`` words each, but for the last."""
    for start in range(0, len(words), size):
        yield encode_write(region, address + start, words[start : start + size])


def data_bytes(command):
    """Bytes that follow the eight of a WRITE."""
    return 2 * int.from_bytes(command[5:7], "little")


def encode_read(address, count):
    return _command(Opcode.READ, address=address, words=count)


def decode_words(reply):
    return np.frombuffer(check_status(reply), dtype="<u2")


def encode_run(first, count, flags=0, address=0, words=0):
    """Runs ``count`` layers, then reads ``words`` words."""
    return _command(
        Opcode.RUN, flags=flags, region=first, count=count, address=address, words=words
    )


def decode_run(reply):
    """(cycles, words) of a run."""
    data = check_status(reply)
    return int.from_bytes(data[:4], "little"), np.frombuffer(data[4:], dtype="<u2")


def reply_bytes(command):
    """Bytes of the reply to a command if its status is OK; if not, it is the status alone."""
    words = 2 * int.from_bytes(command[5:7], "little")
    after = {Opcode.INFO: INFO_BYTES, Opcode.READ: words, Opcode.RUN: 4 + words}
    return 1 + after.get(command[0] & 0x0F, 0)

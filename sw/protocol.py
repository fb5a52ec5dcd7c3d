"""Commands and replies of the accelerator's byte port, for host, simulation and hardware.

A command is an opcode byte, then its arguments, little endian. A reply is a status byte, then data.

=======  ==========================================  =============================================
INFO                                                 ``INFO_BYTES``: version and shape of the engine
WRITE    region 1, address 3, words 3, then the      nothing
         words, 2 bytes each
READ     address 3, words 3                          the words of the SPIKES region, 2 bytes each
RUN      first layer 1, layers 1, ``Flags`` 1        clock cycles of the run, 4 bytes
=======  ==========================================  =============================================

Addresses count 16-bit words. An unknown opcode is answered by ``UNKNOWN``. ``RANGE`` answers a
write or a read beyond the end of a memory (of a write, the words inside are written and the rest
dropped; a read has no data), a run beyond the program memory, a run of nothing, and flags on an
engine without a stem core. With one, layers count from the first after the stem.
"""

import struct
from dataclasses import replace
from enum import IntEnum, IntFlag

import numpy as np

from sw.engine import Engine

__all__ = [
    "INFO_BYTES",
    "VERSION",
    "Flags",
    "Opcode",
    "ProtocolError",
    "Status",
    "decode_cycles",
    "decode_info",
    "decode_words",
    "encode_info",
    "encode_read",
    "encode_run",
    "encode_write",
]

VERSION = 3


class Opcode(IntEnum):
    INFO = 0x01
    WRITE = 0x02
    READ = 0x03
    RUN = 0x04


class Status(IntEnum):
    OK = 0x00
    UNKNOWN = 0x01
    RANGE = 0x02


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


def _uint24(value):
    return int(value).to_bytes(3, "little")


def encode_write(region, address, words):
    data = np.asarray(words, dtype="<u2")
    return bytes([Opcode.WRITE, region]) + _uint24(address) + _uint24(len(data)) + data.tobytes()


def encode_read(address, count):
    return bytes([Opcode.READ]) + _uint24(address) + _uint24(count)


def decode_words(reply):
    return np.frombuffer(check_status(reply), dtype="<u2")


def encode_run(first, count, flags=0):
    return bytes([Opcode.RUN, first, count, flags])


def decode_cycles(reply):
    return int.from_bytes(check_status(reply), "little")

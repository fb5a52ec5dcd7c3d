"""Commands and replies byte for byte, and one line for every reply that is none."""

from dataclasses import replace

import numpy as np
import pytest

from sw import protocol
from sw.engine import ENGINES, Engine
from sw.program import Region
from sw.protocol import Flags, ProtocolError, Status
from tests.support import BOARD_ENGINES

PLAIN = Engine(
    pe=8, simd=16, lanes=4, units=2, weight_depth=0x0201, spike_depth=0x0400, frame_depth=0x0605,
    channel_depth=0x0708, mean_depth=0x090A, layer_depth=11, current_width=17, leak_shifts=(1, 3),
    deep=True,
)
CORES = replace(PLAIN, stem=PLAIN.stem_core(
    pe=4, units=1, weight_depth=0x0C0D, channel_depth=0x0E0F, mean_depth=0x1011
))
STRIPS = {f"{pixels} strips": replace(PLAIN, pixels=pixels) for pixels in (2, 4)}
#: As many passes as their steps allow: of 4, of 2 and of 1.
PASSES = {
    "2 passes": replace(PLAIN, passes=2), "4 passes": replace(PLAIN, passes=4),
    "8 passes, 2 strips": replace(PLAIN, pixels=2, passes=8),
    "16 passes, 4 strips": replace(PLAIN, pixels=4, passes=16),
    "4 passes, 16 strips": replace(PLAIN, lanes=16, pixels=16, passes=4),
    "16 passes, 1 lane": replace(PLAIN, pe=16, simd=64, lanes=1, passes=16),
}
SHALLOW = replace(STRIPS["4 strips"], deep=False)
ENGINES_TESTED = {
    "plain": PLAIN, "cores": CORES, **STRIPS, "shallow": SHALLOW,
    "16 strips": replace(PLAIN, lanes=16, pixels=16), **PASSES,
    "cores, 4 passes": replace(CORES, passes=4, stem=replace(CORES.stem, passes=4)),
    **BOARD_ENGINES,
}


@pytest.mark.parametrize("name", ENGINES_TESTED)
def test_info_carries_the_engine(name):
    data = protocol.encode_info(ENGINES_TESTED[name])
    assert len(data) == protocol.INFO_BYTES == 43
    assert protocol.decode_info(bytes([Status.OK]) + data) == ENGINES_TESTED[name]


def test_info_of_another_engine_differs():
    engines = (*ENGINES_TESTED.values(), replace(PLAIN, deep=False))
    infos = {protocol.encode_info(engine) for engine in engines}
    assert len(infos) == len(engines)
    assert len({protocol.decode_info(b"\0" + info) for info in infos}) == len(engines)


def test_info_written_out():
    shape = bytes.fromhex(
        "04 08 10 04 02 0b 11 0a 01  01020000 00040000 05060000 08070000 0a090000"
    )
    assert protocol.encode_info(PLAIN) == shape + bytes(14)
    # Beside ``deep``: the logarithm of the pixels, and above that of the passes.
    for engine, octet in (
        (replace(PLAIN, deep=False), 0), (STRIPS["2 strips"], 3), (STRIPS["4 strips"], 5),
        (SHALLOW, 4), (ENGINES_TESTED["16 strips"], 9),
        (PASSES["2 passes"], 0x11), (PASSES["4 passes"], 0x21),
        (PASSES["8 passes, 2 strips"], 0x33), (PASSES["16 passes, 4 strips"], 0x45),
        (PASSES["4 passes, 16 strips"], 0x29), (replace(SHALLOW, passes=2), 0x14),
    ):
        info = bytearray(protocol.encode_info(engine))
        assert info[8] == octet
        info[3], info[8] = PLAIN.lanes, 1
        assert info == shape + bytes(14)
    stem = bytes.fromhex("04 01 0d0c0000 0f0e0000 11100000")
    assert protocol.encode_info(CORES) == shape + stem
    info = bytearray(shape + stem)
    info[8] = 0x21
    assert protocol.encode_info(ENGINES_TESTED["cores, 4 passes"]) == info
    assert protocol.decode_info(b"\0" + info).stem.passes == 4


@pytest.mark.parametrize("length", [1, protocol.INFO_BYTES - 1, protocol.INFO_BYTES])
def test_another_version_is_refused(length):
    data = bytes([protocol.VERSION - 1]) + protocol.encode_info(ENGINES["icebreaker"])[1:length]
    with pytest.raises(ProtocolError, match="speaks protocol 3, this host 4"):
        protocol.decode_info(bytes([Status.OK]) + data)


@pytest.mark.parametrize("length", [0, 1, protocol.INFO_BYTES - 1])
def test_a_short_info_is_refused(length):
    data = protocol.encode_info(ENGINES["icebreaker"])[:length]
    with pytest.raises(ProtocolError, match=rf"sent {length} bytes of INFO"):
        protocol.decode_info(bytes([Status.OK]) + data)


def test_commands_written_out():
    assert protocol.encode_write(Region.MEANS, 0x012345, [0xABCD, 0x0102]) == bytes.fromhex(
        "02 03 452301 0200 00 cdab 0201"
    )
    assert protocol.encode_write(Region.SPIKES, 0, []) == bytes.fromhex("02 00 000000 0000 00")
    assert protocol.encode_read(0x10, 0x0203) == bytes.fromhex("03 00 100000 0302 00")
    assert protocol.encode_write(Region.STEM_PROGRAM, 1, [2]) == bytes.fromhex(
        "02 0d 010000 0100 00 0200"
    )
    assert protocol.encode_run(2, 5) == bytes.fromhex("04 02 000000 0000 05")
    assert protocol.encode_run(0, 0, Flags.STEM | Flags.STEM_SIDE, 0x123456, 0x789) == (
        bytes.fromhex("64 00 563412 8907 00")
    )
    assert protocol.encode_run(1, 3, Flags.SIDE | Flags.STEM) == bytes.fromhex(
        "34 01 000000 0000 03"
    )
    assert bytes.fromhex("01 00 000000 0000 00") == protocol.INFO


@pytest.mark.parametrize("size", [1, 3, 7, 10, 65535])
def test_writes_of_a_size_are_the_whole(size):
    words = np.arange(100, 110, dtype=np.uint16)
    commands = list(protocol.encode_writes(Region.MEANS, 5, words, size))
    assert [protocol.data_bytes(command) // 2 for command in commands[:-1]] == (
        [size] * (len(commands) - 1)
    )
    assert [int.from_bytes(command[2:5], "little") for command in commands] == [
        5 + size * number for number in range(len(commands))
    ]
    data = b"".join(command[protocol.COMMAND_BYTES :] for command in commands)
    assert data == words.astype("<u2").tobytes()


def test_replies_are_as_long_as_told():
    told = {
        protocol.INFO: protocol.INFO_BYTES, protocol.encode_write(0, 0, [1, 2]): 0,
        protocol.encode_read(3, 300): 600, protocol.encode_run(0, 1): 4,
        protocol.encode_run(0, 1, 7, 9, 20): 44,
    }
    assert {command: protocol.reply_bytes(command) - 1 for command in told} == told


@pytest.mark.parametrize("encode", [
    lambda: protocol.encode_read(0, 65536), lambda: protocol.encode_write(0, 0, range(65536)),
    lambda: protocol.encode_run(0, 1, 16),
])
def test_what_a_command_has_no_room_for_is_refused(encode):
    with pytest.raises(ProtocolError, match="at most"):
        encode()


def test_words_and_cycles_are_little_endian():
    words = np.array([0, 1, 0xFF00, 0xFFFF], np.uint16)
    assert protocol.decode_words(b"\0" + words.astype("<u2").tobytes()).tolist() == words.tolist()
    assert protocol.decode_words(b"\0").tolist() == []
    cycles, read = protocol.decode_run(bytes.fromhex("00 40420f00 0100 00ff"))
    assert (cycles, read.tolist()) == (1_000_000, [1, 0xFF00])
    assert protocol.decode_run(bytes.fromhex("00 04030281"))[0] == 0x81020304


@pytest.mark.parametrize("decode", [
    protocol.decode_info, protocol.decode_words, protocol.decode_run, protocol.check_status,
])
@pytest.mark.parametrize("reply, message", [
    (b"", "no reply from the device"), (bytes([Status.UNKNOWN]), "the device answered UNKNOWN"),
    (bytes([Status.RANGE, 1, 2]), "the device answered RANGE"), (b"\x7f", "answered 0x7f"),
])
def test_answers_that_are_errors(decode, reply, message):
    with pytest.raises(ProtocolError, match=message) as raised:
        decode(reply)
    assert "\n" not in str(raised.value)


def test_addresses_beyond_three_bytes_are_refused():
    with pytest.raises(OverflowError):
        protocol.encode_read(1 << 24, 1)

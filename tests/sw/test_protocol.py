"""Commands and replies byte for byte, and one line for every reply that is none."""

import numpy as np
import pytest

from sw import protocol
from sw.engine import ENGINES
from sw.program import Region
from sw.protocol import Opcode, ProtocolError, Status


@pytest.mark.parametrize("name", ENGINES)
def test_info_carries_the_engine(name):
    data = protocol.encode_info(ENGINES[name])
    assert len(data) == protocol.INFO_BYTES
    assert protocol.decode_info(bytes([Status.OK]) + data) == ENGINES[name]


def test_info_of_another_engine_differs():
    one, other = (protocol.encode_info(engine) for engine in ENGINES.values())
    assert protocol.decode_info(b"\0" + one) != protocol.decode_info(b"\0" + other)


@pytest.mark.parametrize("length", [1, protocol.INFO_BYTES - 1, protocol.INFO_BYTES])
def test_another_version_is_refused(length):
    data = bytes([protocol.VERSION - 1]) + protocol.encode_info(ENGINES["icebreaker"])[1:length]
    with pytest.raises(ProtocolError, match="speaks protocol 1, this host 2"):
        protocol.decode_info(bytes([Status.OK]) + data)


@pytest.mark.parametrize("length", [0, 1, protocol.INFO_BYTES - 1])
def test_a_short_info_is_refused(length):
    data = protocol.encode_info(ENGINES["icebreaker"])[:length]
    with pytest.raises(ProtocolError, match=rf"sent {length} bytes of INFO"):
        protocol.decode_info(bytes([Status.OK]) + data)


def test_commands_written_out():
    assert protocol.encode_write(Region.MEANS, 0x012345, [0xABCD, 0x0102]) == bytes.fromhex(
        "02 03 452301 020000 cdab 0201"
    )
    assert protocol.encode_write(Region.SPIKES, 0, []) == bytes.fromhex("02 00 000000 000000")
    assert protocol.encode_read(0x10, 0x20304) == bytes.fromhex("03 100000 040302")
    assert protocol.encode_run(2, 5) == bytes.fromhex("04 02 05")
    assert bytes([Opcode.INFO]) == b"\x01"


def test_words_and_cycles_are_little_endian():
    words = np.array([0, 1, 0xFF00, 0xFFFF], np.uint16)
    assert protocol.decode_words(b"\0" + words.astype("<u2").tobytes()).tolist() == words.tolist()
    assert protocol.decode_words(b"\0").tolist() == []
    assert protocol.decode_cycles(bytes.fromhex("00 40420f00")) == 1_000_000


@pytest.mark.parametrize("decode", [
    protocol.decode_info, protocol.decode_words, protocol.decode_cycles, protocol.check_status,
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

"""The device's end of the frames, where numbers start over and replies are too short."""

import pytest

from sw import protocol
from sw.framing import (
    CRC_BYTES,
    NUMBERS,
    OPENING,
    FramingError,
    Receiver,
    frame_command,
    frame_reply,
    unframe_reply,
)


def taken(numbers):
    """(sequence, whether it is in order, whether it comes again) of INFO under such numbers."""
    receiver = Receiver()
    return [
        (sequence, command is not None, again)
        for number in numbers for octet in frame_command(number, protocol.INFO)
        for sequence, command, again in receiver.take(octet)
    ]


def test_the_last_number_comes_again_before_the_first():
    last = NUMBERS - 1
    assert taken([OPENING + last - 1, last, last, 0, 0, last, 1]) == [
        (OPENING + last - 1, True, False), (last, True, False), (last, True, True),
        (0, True, False), (0, True, True), (last, False, False), (1, True, False),
    ]


@pytest.mark.parametrize("size", range(1 + CRC_BYTES + 1))
def test_replies_without_a_status_are_none(size):
    """Zeros are their own CRC-32, as far as there is nothing before them."""
    with pytest.raises(FramingError, match=f"a reply of {size} bytes is none"):
        unframe_reply(0, bytes(size))
    assert unframe_reply(0, frame_reply(0, b"\0")) == b"\0"

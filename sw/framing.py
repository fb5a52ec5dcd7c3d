"""Frames that carry the commands and replies of ``sw.protocol`` over a line that may err.

A frame is a sequence number, a command, and the CRC-32 of both; of a WRITE, the data and a CRC-32
of theirs follow. The reply is the same sequence number, the reply, and the CRC-32 of both. Every
CRC is that of Ethernet and zip files, four bytes, the lowest first.

Sequence numbers count to 127 and start over. The device takes the number that follows the last one,
or the last one again: then it does again what does no harm, runs nothing a second time, and sends
the same reply. Any other number is answered by ``ORDER``, unless it has ``OPENING`` added: that one
is taken whatever came before, and the first after a reset must have it.

A frame that is not intact has no answer, and the device hears nothing more until the line has been
quiet for ``QUIET_SECONDS``. A frame that stops half-way is forgotten then.
"""

import zlib
from dataclasses import dataclass

from sw.protocol import COMMAND_BYTES, Opcode, data_bytes
from sw.protocol import reply_bytes as bytes_if_ok

__all__ = [
    "BAUDS",
    "CRC_BYTES",
    "NUMBERS",
    "OPENING",
    "QUIET_SECONDS",
    "FramingError",
    "Receiver",
    "bytes_both_ways",
    "frame_command",
    "frame_reply",
    "reply_bytes",
    "unframe_reply",
]

CRC_BYTES = 4

#: How many sequence numbers there are, and what is added to the first of a session.
NUMBERS = OPENING = 128


#: A line without a byte for so long is quiet; the device may take up to twice as long.
QUIET_SECONDS = 0.01

#: Rates of the serial lines of boards, bits a second: a board has the first that its bridge and its
#: clock can do.
BAUDS = (3_000_000, 2_000_000, 1_500_000, 1_000_000, 500_000, 115_200)


class FramingError(RuntimeError):
    """A reply that is damaged, or that belongs to another command."""


def _crc(octets):
    return zlib.crc32(octets).to_bytes(CRC_BYTES, "little")


def frame_command(sequence, command):
    """The frame of a command of ``sw.protocol``, with the data of a WRITE behind it."""
    head, data = bytes([sequence]) + command[:COMMAND_BYTES], command[COMMAND_BYTES:]
    tail = data + _crc(data) if command[0] == Opcode.WRITE else b""
    return head + _crc(head) + tail


def bytes_both_ways(commands):
    """Bytes on the line of commands and their replies, if nothing goes wrong."""
    return sum(
        len(frame_command(0, command)) + reply_bytes(bytes_if_ok(command)) for command in commands
    )


def frame_reply(sequence, reply):
    octets = bytes([sequence]) + reply
    return octets + _crc(octets)


def reply_bytes(reply):
    """Bytes of the frame of a reply of so many bytes."""
    return 1 + reply + CRC_BYTES


def unframe_reply(sequence, octets):
    """The reply in a frame. Raises FramingError."""
    if len(octets) <= 1 + CRC_BYTES:
        raise FramingError(f"a reply of {len(octets)} bytes is none")
    if _crc(octets[:-CRC_BYTES]) != octets[-CRC_BYTES:]:
        raise FramingError("a damaged reply")
    if octets[0] != sequence:
        raise FramingError(f"a reply to command {octets[0]}, not {sequence}")
    return octets[1:-CRC_BYTES]


@dataclass
class Receiver:
    """The device's end: which frames it takes. ``hw.link`` is the same in hardware."""

    octets: bytes = b""
    refused: bool = False
    expected: int | None = None

    def take(self, octet):
        """Yields (sequence, command or None, again) when ``octet`` completes a frame.

        octet: None when the line has been quiet. The command is None if it is out of order.
        """
        if octet is None:
            self.octets, self.refused = b"", False
            return
        self.octets += bytes([octet])
        head = 1 + COMMAND_BYTES + CRC_BYTES
        if self.refused or len(self.octets) < head:
            return
        sequence, command = self.octets[0], self.octets[1 : 1 + COMMAND_BYTES]
        if len(self.octets) == head:
            if not self._intact(self.octets):
                return
            if not self._in_order(sequence):
                self.octets = b""
                yield sequence, None, False
                return
            self.again = not sequence & OPENING and self.expected == (sequence + 1) % NUMBERS
            self.expected = (sequence + 1) % NUMBERS
        if command[0] == Opcode.WRITE:
            data = self.octets[head:]
            if len(data) < data_bytes(command) + CRC_BYTES or not self._intact(data):
                return
            command += data[:-CRC_BYTES]
        self.octets = b""
        yield sequence, command, self.again

    def _in_order(self, sequence):
        if sequence & OPENING:
            return True
        return self.expected is not None and (self.expected - sequence) % NUMBERS in (0, 1)

    def _intact(self, octets):
        self.refused = _crc(octets[:-CRC_BYTES]) != octets[-CRC_BYTES:]
        return not self.refused

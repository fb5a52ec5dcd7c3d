"""The host's end of the line: a command goes out in a frame, its reply comes back, or an error.

Stop and wait: a frame without an intact reply is sent again under the same number, which the device
carries out once (``sw.framing``). So a line that errs makes a session slower, never wrong.
"""

import errno
from collections import Counter
from contextlib import suppress
from time import monotonic, sleep

import serial
from serial.tools import list_ports

from sw.framing import (
    BAUDS,
    NUMBERS,
    OPENING,
    QUIET_SECONDS,
    FramingError,
    frame_command,
    reply_bytes,
    unframe_reply,
)
from sw.protocol import INFO, Opcode, Status
from sw.protocol import reply_bytes as bytes_if_ok

__all__ = ["ATTEMPTS", "TIMEOUT", "Link", "LinkError", "LostSession", "connect", "find_port"]

#: How often a frame is sent before the link is given up; while a baud rate is tried out, twice.
ATTEMPTS = 5
_PROBES = 2

#: Seconds for a reply to begin, and for that of a RUN.
TIMEOUT = 0.1
RUN_TIMEOUT = 5.0

#: Seconds of one read. A line without a byte for so long is quiet, for the device as well.
_TICK = 3 * QUIET_SECONDS

#: Seconds after which a line that still sends is no accelerator's.
_NOISE = 1.0

#: Bytes given to the port at once, and the bits that a byte takes on the line.
_BLOCK = 4096
_BYTE_BITS = 10


class LinkError(RuntimeError):
    """A port that cannot be opened or does not answer: what is wrong and what to do."""


class LostSession(LinkError):
    """The session is over, and the device may be empty: it was reset, or left a command open."""


class Link:
    """A session over a serial port.

    port: a ``serial.Serial``, or what has its ``read``, ``write``, ``close``, ``baudrate``,
    ``timeout`` and ``write_timeout``. timeout: seconds for a reply to begin, beyond those that its
    bytes take. run_timeout: the same of a RUN. counts: commands, frames sent again (retries),
    timeouts, damaged replies.
    """

    def __init__(self, port, timeout=TIMEOUT, run_timeout=RUN_TIMEOUT):
        if timeout <= 2 * QUIET_SECONDS:
            raise LinkError(
                f"a timeout of {timeout} s is too short: more than {2 * QUIET_SECONDS}, after which"
                " the device listens again"
            )
        self.port, self.timeout, self.run_timeout = port, timeout, max(timeout, run_timeout)
        self.counts = Counter(commands=0, retries=0, timeouts=0, damaged=0)
        self._number, self._in_session = 0, False
        # Changed once only: pyserial sets up the whole port each time.
        port.timeout = _TICK

    def open(self, attempts=ATTEMPTS):
        """Begins a session, whatever came before. The reply to INFO. Raises LinkError."""
        self._wait_for_silence()
        return self._deliver(self._number | OPENING, INFO, attempts)

    def ask(self, command):
        """The reply to a command of ``sw.protocol``: its status, then data.

        Raises LinkError, and LostSession when a new session must be opened first.
        """
        if not self._in_session:
            raise LostSession("the session broke off")
        reply = self._deliver(self._number, command, ATTEMPTS)
        if reply[0] == Status.ORDER:
            self._in_session = False
            raise LostSession("the device was reset")
        return reply

    def close(self):
        self.port.close()

    def _deliver(self, number, command, attempts):
        frame = frame_command(number, command)
        self.counts["commands"] += 1
        # Without a reply nobody knows whether the device took the number. It would not run another
        # command under the same one.
        self._in_session = False
        for attempt in range(attempts):
            if attempt:
                self.counts["retries"] += 1
                self._wait_for_silence()
            self._send(frame)
            octets = self._receive(command, len(frame))
            if octets is None:
                self.counts["timeouts"] += 1
                continue
            try:
                reply = unframe_reply(number, octets)
            except FramingError:
                self.counts["damaged"] += 1
                continue
            self._number, self._in_session = (number + 1) % NUMBERS, True
            return reply
        raise LinkError(
            f"no intact reply in {attempts} attempts: check the cable and the baud rate, or give"
            " a longer timeout"
        )

    def _seconds(self, octets):
        """What so many bytes take on the line."""
        return octets * _BYTE_BITS / self.port.baudrate

    def _send(self, frame):
        try:
            for start in range(0, len(frame), _BLOCK):
                block = frame[start : start + _BLOCK]
                # Before it leave the bytes that the system still holds: as many, or few.
                self.port.write_timeout = self.timeout + 2 * self._seconds(_BLOCK)
                self.port.write(block)
        except serial.SerialTimeoutException as error:
            raise LinkError("the port takes no bytes: is it the right one?") from error
        except OSError as error:
            raise _vanished(error) from error

    def _receive(self, command, sent):
        """The bytes of a reply, or None if they do not come in time."""
        runs = command[0] & 0x0F == Opcode.RUN
        begins = self.run_timeout if runs else self.timeout
        # The port takes bytes before they are on the line.
        octets = self._read(2, begins + self._seconds(sent))
        if octets is None:
            return None
        # A reply that is no OK is a status alone.
        size = reply_bytes(bytes_if_ok(command) if octets[1] == Status.OK else 1)
        rest = self._read(size - 2, self.timeout + self._seconds(size))
        return None if rest is None else octets + rest

    def _read(self, count, seconds):
        octets, deadline = b"", monotonic() + seconds
        while True:
            octets += self._read_some(count - len(octets))
            if len(octets) == count:
                return octets
            if monotonic() > deadline:
                return None

    def _read_some(self, count):
        """Up to so many bytes: what comes within a tick."""
        try:
            return self.port.read(count)
        except OSError as error:
            raise _vanished(error) from error

    def _wait_for_silence(self):
        """Drops what comes, until the line has been quiet for long enough for both ends."""
        deadline = monotonic() + _NOISE
        while self._read_some(_BLOCK):
            if monotonic() > deadline:
                raise LinkError("the line is never quiet: is it the right port and baud rate?")


def _vanished(error):
    return LinkError(f"the port is gone: plug the board in again ({_reason(error)})")


def _reason(error):
    return str(error.strerror or error).splitlines()[0]


def find_port():
    """The name of the only serial port there is. Raises LinkError with all of them."""
    names = [port.device for port in list_ports.comports()]
    if not names:
        raise LinkError("no serial port found: plug the board in, or name one with --port")
    if len(names) > 1:
        raise LinkError(f"several serial ports: choose one with --port: {', '.join(sorted(names))}")
    return names[0]


def connect(name=None, baud=None, timeout=TIMEOUT):
    """A Link with an open session, and the reply to INFO. Raises LinkError.

    name: of the port; None is the only one there is. baud: None tries those of ``sw.framing``.
    """
    name = name or find_port()
    rates = BAUDS if baud is None else (baud,)
    port = _open_port(name, rates[0])
    try:
        link = Link(port, timeout)
        for rate in rates:
            # Not every bridge can do every rate.
            with suppress(LinkError, OSError, ValueError):
                port.baudrate = rate
                _send_break(port)
                return link, link.open(_PROBES)
    except BaseException:
        port.close()
        raise
    port.close()
    raise LinkError(
        f"{name}: no accelerator answers at {', '.join(map(str, rates))} baud: is the bitstream"
        " loaded, and is it the right port?"
    )


def _open_port(name, baud):
    try:
        port = serial.Serial(name, baud, exclusive=True)
    except (OSError, ValueError) as error:
        advice = {
            errno.ENOENT: "no such port: plug the board in, or choose another with --port",
            errno.EACCES: "not allowed: join the group that owns the port, often dialout",
            errno.EAGAIN: "in use: end the other program",
            errno.EBUSY: "in use: end the other program",
        }.get(getattr(error, "errno", None), f"cannot be opened ({str(error).splitlines()[0]})")
        raise LinkError(f"{name}: {advice}") from error
    # Else some bridges hold bytes back for 16 ms. Not every system can say so.
    with suppress(AttributeError, NotImplementedError, OSError, ValueError):
        port.set_low_latency_mode(True)
    return port


def _send_break(port):
    """Ends what the device does, if the port can send one."""
    with suppress(OSError):
        port.break_condition = True
        sleep(_TICK)
        port.break_condition = False

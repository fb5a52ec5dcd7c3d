"""The link: commands and replies in frames, with a sum behind each, over a line that may err."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ETHERNET
from amaranth.lib.wiring import In, Out

from hw.port import Check
from sw import framing
from sw.framing import CRC_BYTES, OPENING, QUIET_SECONDS
from sw.protocol import Status

__all__ = ["Link", "quiet_bits"]


def quiet_bits(clock_hz):
    """The least ``quiet_bits`` of a Link for ``QUIET_SECONDS`` at a clock."""
    return (round(float(clock_hz) * QUIET_SECONDS) - 1).bit_length()


class Link(wiring.Component):
    """Hands the port what came over the line intact and in order; frames its replies.

    The port acts on nothing that the sum behind it has not confirmed, so nothing is stored here. A
    frame that is not intact is not answered, and nothing is heard from then on until the line has
    been quiet; a frame that ends too early is forgotten then. ``sw.framing`` defines the frames.

    Parameters
    ----------
    quiet_bits : a line without a byte for 2**quiet_bits cycles is quiet.

    Members
    -------
    rx, tx : bytes of the line. Those that come while a command is carried out have to wait.
    command, reply, check : of the port.
    """

    #: Cycles that a byte takes: the sum is computed bit by bit.
    cycles = 10

    def __init__(self, quiet_bits):
        self.quiet_bits = quiet_bits
        super().__init__({
            "rx": In(stream.Signature(8)),
            "tx": Out(stream.Signature(8)),
            "command": Out(stream.Signature(8)),
            "reply": In(stream.Signature(8)),
            "check": Out(Check),
        })

    def model(self, arrivals, port):
        """Bytes sent when ``arrivals`` come, bytes with None for each time the line is quiet.

        port(command, again) is the reply to a command.
        """
        receiver = framing.Receiver()
        replies = b""
        for octet in arrivals:
            for sequence, command, again in receiver.take(octet):
                answer = bytes([Status.ORDER]) if command is None else port(command, again)
                replies += framing.frame_reply(sequence, answer)
        return replies

    def elaborate(self, platform):
        m = Module()
        rx, tx, command, reply, check = self.rx, self.tx, self.command, self.reply, self.check
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=1).create()

        octet, bit = Signal(8), Signal(3)
        # Received: the next byte is a frame's first; the next begins a sum; the sum differs; the
        # header was taken; nothing is heard. Sent: a reply; the sum of it.
        first, begins, differs = Signal(init=1), Signal(init=1), Signal()
        admitted, refused = Signal(), Signal()
        sending, summing = Signal(), Signal()
        # Bytes of a sum, sent or received.
        place = Signal(range(CRC_BYTES))
        silence = Signal(self.quiet_bits + 1)
        quiet = silence[-1]

        sequence, following, expected = Signal(8), Signal(7), Signal(7)
        opened, again, in_order = Signal(), Signal(), Signal()
        opening = (sequence & OPENING).any()
        m.d.comb += [
            following.eq(sequence + 1),
            again.eq(opened & ~opening & (following == expected)),
            in_order.eq(opening | again | (opened & (sequence[:7] == expected))),
        ]

        # A sum that is its own input leaves the register bit by bit, the lowest first. A sum that
        # has come intact is that, so the two are compared as they go.
        m.d.comb += [
            tx.payload.eq(Mux(summing, crc.crc, octet)),
            command.payload.eq(octet),
            crc.data.eq(Mux(summing, ~crc.crc[0], octet[0] ^ check.awaits)),
        ]
        with m.If(~quiet):
            m.d.sync += silence.eq(silence + 1)

        with m.FSM():
            with m.State("Listen"):
                m.d.comb += rx.ready.eq(1)
                with m.If(rx.valid):
                    m.d.comb += crc.start.eq(begins)
                    m.d.sync += [octet.eq(rx.payload), begins.eq(0), silence.eq(0)]
                    m.next = "Weigh"
                with m.Elif(quiet):
                    m.d.comb += check.drop.eq(1)
                    m.d.sync += [
                        first.eq(1), begins.eq(1), place.eq(0), admitted.eq(0), refused.eq(0),
                        differs.eq(0),
                    ]

            with m.State("Weigh"):
                m.d.comb += crc.valid.eq(1)
                m.d.sync += [octet.eq(octet.rotate_right(1)), bit.eq(bit + 1)]
                with m.If(check.awaits & (octet[0] != crc.crc[0])):
                    m.d.sync += differs.eq(1)
                with m.If(bit == 7):
                    m.next = "Taken"
                    with m.If(sending):
                        m.next = "Next"

            with m.State("Taken"):
                m.next = "Listen"
                with m.If(refused):
                    pass
                with m.Elif(first):
                    m.d.sync += [sequence.eq(octet), first.eq(0)]
                with m.Elif(check.awaits):
                    m.d.sync += place.eq(place + 1)
                    with m.If(place == CRC_BYTES - 1):
                        m.next = "Judge"
                with m.Else():
                    m.d.comb += command.valid.eq(1)
                    with m.If(~command.ready):
                        m.next = "Taken"

            with m.State("Judge"):
                m.d.sync += begins.eq(1)
                with m.If(differs):
                    m.d.comb += check.drop.eq(1)
                    m.d.sync += refused.eq(1)
                    m.next = "Listen"
                with m.Else():
                    m.d.comb += [
                        check.intact.eq(admitted | in_order),
                        check.disorder.eq(~check.intact),
                        check.again.eq(again),
                    ]
                    with m.If(in_order):
                        m.d.sync += [admitted.eq(1), opened.eq(1), expected.eq(following)]
                    m.next = "Work"

            with m.State("Work"):
                # Data follow, or their sum if there are none, or the reply.
                m.d.comb += crc.start.eq(1)
                with m.If(command.ready | check.awaits):
                    m.next = "Listen"
                with m.Elif(reply.valid):
                    m.d.sync += [octet.eq(sequence), sending.eq(1)]
                    m.next = "Send"

            with m.State("Send"):
                m.d.comb += tx.valid.eq(1)
                with m.If(tx.ready):
                    m.next = "Weigh"

            with m.State("Next"):
                m.next = "Send"
                m.d.comb += reply.ready.eq(~summing)
                m.d.sync += octet.eq(reply.payload)
                with m.If(summing):
                    m.d.sync += place.eq(place + 1)
                    with m.If(place == CRC_BYTES - 1):
                        m.d.sync += [
                            sending.eq(0), summing.eq(0), first.eq(1), begins.eq(1),
                            admitted.eq(0),
                        ]
                        m.next = "Listen"
                with m.Elif(check.idle):
                    m.d.sync += summing.eq(1)
                with m.Elif(~reply.valid):
                    m.next = "Next"
        return m

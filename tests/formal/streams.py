"""The rules of streams (Amaranth's manual, data transfer rules), for every producer there is.

What is offered stays until it is taken (rule 2), and only what is offered can be taken: where
nothing is, ``ready`` changes nothing (rule 3). Rules 1 and 4 ask nothing of a producer.

Rule 3 does not hold of the bytes that a link hands to its port: between two of them, ``ready``
tells it that data follow.
"""

from functools import partial

from amaranth.hdl import Assert, Assume, Cat, Fragment, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.boot import Boot
from hw.link import Link
from hw.port import Port
from hw.uart import Receiver
from sw.engine import Engine
from tests.formal.proof import Circuit, elaborated, inside, ongoing
from tests.mutants.mutation import Mutation

__all__ = ["ENGINE", "PROOFS", "Linked"]

ENGINE = Engine(
    pe=4, simd=8, lanes=4, weight_depth=64, spike_depth=64, channel_depth=64, mean_depth=256
)


def assert_kept(m, offer):
    """Asserts that what was offered and not taken is offered again."""
    waited, was = Signal(), Signal.like(offer.payload)
    m.d.sync += [waited.eq(offer.valid & ~offer.ready), was.eq(offer.payload)]
    with m.If(waited):
        m.d.comb += Assert(offer.valid & (offer.payload == was))


class ReceiverOffers(wiring.Component):
    """Of a receiver, whatever comes over the line."""

    line: In(1)
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = Receiver(divisor=4)
        m.d.comb += receiver.line.eq(self.line)
        connect(m, receiver.o, flipped(self.o))
        assert_kept(m, self.o)
        return m


class BootOffers(wiring.Component):
    """Of what is read from a flash, whatever that answers."""

    answer: In(1)
    octets: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        boot = Boot()
        m.submodules.boot, of_boot = elaborated(boot)
        m.d.comb += boot.flash.cipo.eq(self.answer)
        connect(m, boot.octets, flipped(self.octets))
        assert_kept(m, self.octets)
        # Induction is not to start from a step that there is not.
        m.d.comb += Assert(of_boot["step"] <= of_boot["data"])
        return m


class Linked(wiring.Component):
    """A link and a port that talk to each other, whatever the line brings and the cores do."""

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))
    busy: In(1)
    word: In(16)

    def __init__(self):
        self.link, self.port = Link(4), Port(ENGINE)
        super().__init__()

    def linked(self):
        """A Module with the two, and whether the link and the port are in a state of a name."""
        m = Module()
        link, port = self.link, self.port
        m.submodules.link, of_link = elaborated(link)
        m.submodules.port, of_port = elaborated(port)
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        connect(m, link.command, port.rx)
        connect(m, port.tx, link.reply)
        connect(m, link.check, port.check)
        m.d.comb += [port.busy.eq(self.busy), port.read.data.eq(self.word)]
        heard, worked = partial(ongoing, of_link), partial(ongoing, of_port)
        # What the two know of each other, without which induction starts from states that never
        # are: a port that is about to wait for a sum has just taken what came before it.
        with m.If(worked("Write") & ~port.rx.ready):
            m.d.comb += Assert(heard("Work") | heard("Listen"))
        return m, heard, worked, of_link


class LinkedOffers(Linked):
    """Of both."""

    def elaborate(self, platform):
        m, *_ = self.linked()
        hold_word(m, self.port.read, self.word)
        for offer in (self.link.command, self.port.tx, self.link.tx):
            assert_kept(m, offer)
        return m


def hold_word(m, read, word):
    """Assume a memory's word to stand until the next read."""
    was, asked = Signal.like(word), Signal()
    m.d.sync += [was.eq(word), asked.eq(read.enable)]
    with m.If(~asked):
        m.d.comb += Assume(word == was)


class OnlyOffersAreTaken(wiring.Component):
    """Of two producers in one state, one meets a ``ready`` that the other does not.

    They offer the same; and where that is nothing, they do not part.
    """

    def __init__(self, make, offer):
        self.one, self.other = make(), make()
        self.offers = [getattr(producer, offer) for producer in (self.one, self.other)]
        #: Inputs by name, of both.
        self.inputs = {
            "__".join(map(str, path)): (mine, theirs)
            for (path, member, mine), (_, _, theirs) in zip(
                *(each.signature.flatten(each) for each in (self.one, self.other)), strict=True
            ) if member.flow is In
        }
        super().__init__({
            "another_ready": In(1),
            **{name: In(len(Value.cast(mine))) for name, (mine, _) in self.inputs.items()},
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.one = one_inside = Fragment.get(self.one, platform)
        m.submodules.other = other_inside = Fragment.get(self.other, platform)
        for name, values in self.inputs.items():
            for value in values:
                different = value is self.offers[1].ready
                m.d.comb += value.eq(self.another_ready if different else getattr(self, name))
        offers = self.offers
        registers = [
            (register, inside(other_inside, registers=True)[name])
            for name, register in inside(one_inside, registers=True).items()
        ]
        first, offered = Signal(init=1), Signal()
        m.d.sync += [first.eq(0), offered.eq(offers[0].valid)]
        same = Cat(register == twin for register, twin in registers).all()
        with m.If(first):
            m.d.comb += [
                Assume(same),
                Assert(offers[0].valid == offers[1].valid),
                Assert(offers[0].payload == offers[1].payload),
            ]
        with m.Elif(~offered):
            m.d.comb += Assert(same)
        return m


PROOFS = [
    Circuit(
        "uart-receiver-offers", "a byte received is offered until it is taken", ReceiverOffers,
        Mutation(
            "hw/uart.py", "with m.If(level & (~self.o.valid | self.o.ready)):",
            "with m.If(level):", "a byte not taken yet is overwritten",
        ),
        depth=2, inductive=True,
    ),
    Circuit(
        "boot-offers", "a byte of the flash is offered until it is taken", BootOffers,
        Mutation(
            "hw/boot.py", "m.next = \"Taken\"\n                    with m.If(octets.ready)",
            "m.next = \"Shift\"\n                    with m.If(octets.ready)",
            "a byte is offered for a single cycle",
        ),
        depth=2, inductive=True,
    ),
    Circuit(
        "linked-offers", "bytes between link and port, and replies, are offered until taken",
        LinkedOffers,
        Mutation(
            "hw/port.py", "with m.If(tx.ready):\n                m.next = following",
            "m.next = following", "a reply does not wait",
        ),
        depth=2, inductive=True,
    ),
    *(
        Circuit(
            f"{name}-waits-for-no-ready", f"{what} is offered whether or not it will be taken",
            partial(OnlyOffersAreTaken, make, offer), mutant, depth=2, anywhere=True,
        )
        for name, what, make, offer, mutant in (
            (
                "receiver", "a byte received", partial(Receiver, 4), "o",
                Mutation(
                    "hw/uart.py", "with m.If(~level):\n                    m.next = \"Start\"",
                    "with m.If(~level & self.o.ready):\n                    m.next = \"Start\"",
                    "nothing is received until there is a reader",
                ),
            ),
            (
                "boot", "a byte of the flash", Boot, "octets",
                Mutation(
                    "hw/boot.py", "m.d.comb += octets.valid.eq(1)",
                    "m.d.comb += octets.valid.eq(octets.ready)",
                    "a byte is offered where it is asked for",
                ),
            ),
            (
                "link", "a byte of a reply's frame", partial(Link, 4), "tx",
                Mutation(
                    "hw/link.py", "m.d.comb += tx.valid.eq(1)",
                    "m.d.comb += tx.valid.eq(tx.ready)", "a byte is offered where it is asked for",
                ),
            ),
            (
                "port", "a byte of a reply", partial(Port, ENGINE), "tx",
                Mutation(
                    "hw/port.py", "m.d.comb += [tx.payload.eq(payload), tx.valid.eq(1)]",
                    "m.d.comb += [tx.payload.eq(payload), tx.valid.eq(tx.ready)]",
                    "a byte is offered where it is asked for",
                ),
            ),
        )
    ),
]

"""The command port: bytes in, bytes out (``sw.protocol`` defines them)."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bus import ADDRESS_BITS, HostRead, HostWrite
from sw.program import Region, region_words
from sw.protocol import COMMAND_BYTES, Flags, Opcode, Status, encode_info

__all__ = ["Check", "Port"]

#: What a checker of the bytes tells the port that carries them out (``hw.link``).
#: awaits: the port has all bytes of a command, or all data of a write, and goes on when they are
#: ``intact``. drop: forget what has come of a command. disorder: the command is out of order.
#: again: it is the last one, which was carried out, so nothing runs a second time. idle: no command
#: is being carried out.
Check = wiring.Signature({
    "awaits": In(1),
    "idle": In(1),
    "intact": Out(1),
    "disorder": Out(1),
    "again": Out(1),
    "drop": Out(1),
})


class Port(wiring.Component):
    """Reads one command at a time, carries it out, replies. Replies wait for ``tx.ready``.

    Members
    -------
    rx, tx : command and reply bytes.
    check : whether those of ``rx`` are intact.
    write, read : the memories.
    start, first, count, flags, busy : the sequencers. The cycles of a run are those of ``busy``.
    """

    def __init__(self, engine):
        self.engine = engine
        super().__init__({
            "rx": In(stream.Signature(8)),
            "tx": Out(stream.Signature(8)),
            "check": In(Check),
            "write": Out(HostWrite),
            "read": Out(HostRead),
            "start": Out(1),
            "first": Out(8),
            "count": Out(8),
            "flags": Out(Flags),
            "busy": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        engine, check = self.engine, self.check
        rx, tx = self.rx, self.tx

        # A command shifts in from the top.
        opcode, flags, region = Signal(4), Signal(4), Signal(8)
        address, words, count = Signal(ADDRESS_BITS), Signal(16), Signal(8)
        command = Cat(opcode, flags, region, address, words, count)
        place = Signal(range(COMMAND_BYTES))
        status = Signal(Status)
        low, high_byte = Signal(8), Signal()
        in_range = Signal()
        index = Signal(8)
        cycles, ran = Signal(32), Signal()

        info = Array(encode_info(engine))
        sizes = region_words(engine)
        limits = Array(sizes.get(region, 0) for region in range(16))
        # No memory is longer than this: addresses count no further, and are compared no wider.
        top = max(sizes.values()).bit_length()
        counter, limit = address[:top], Signal(top)
        end = sizes[Region.SPIKES].bit_length()
        # Without a stem core there is nothing else to run, and one side of the spike memory.
        legal = Signal()
        if engine.stem:
            stem = (self.flags & Flags.STEM).any()
            m.d.comb += legal.eq(((count != 0) | stem) & ~flags[len(self.flags) :].any())
        else:
            m.d.comb += legal.eq((count != 0) & (flags == 0))
        m.d.comb += [
            self.write.region.eq(region),
            self.write.address.eq(address),
            self.write.data.eq(Cat(low, rx.payload)),
            self.read.address.eq(address),
            self.first.eq(region),
            self.count.eq(count),
            self.flags.eq(flags),
        ]

        with m.If(region[4:] == 0):
            m.d.comb += limit.eq(limits[region[:4]])
        # An address stands for at least two cycles, the two bytes of its word, before it is used.
        m.d.sync += in_range.eq((counter < limit) & (address[top:] == 0))

        def send(payload, following):
            m.d.comb += [tx.payload.eq(payload), tx.valid.eq(1)]
            with m.If(tx.ready):
                m.next = following

        with m.FSM() as fsm:
            m.d.comb += [
                check.awaits.eq(fsm.ongoing("Check") | fsm.ongoing("Written")),
                check.idle.eq(fsm.ongoing("Command")),
            ]
            with m.State("Command"):
                m.d.comb += rx.ready.eq(1)
                with m.If(rx.valid):
                    m.d.sync += [command.eq(Cat(command[8:], rx.payload)), place.eq(place + 1)]
                    with m.If(place == COMMAND_BYTES - 1):
                        m.next = "Check"
                with m.If(check.drop):
                    m.d.sync += place.eq(0)

            with m.State("Check"):
                m.d.sync += [index.eq(0), high_byte.eq(0), status.eq(Status.OK)]
                with m.If(check.drop):
                    m.next = "Command"
                with m.Elif(check.disorder):
                    m.d.sync += status.eq(Status.ORDER)
                    m.next = "Status"
                with m.Elif(check.intact):
                    with m.Switch(opcode):
                        with m.Case(Opcode.INFO):
                            m.next = "Status"
                        with m.Case(Opcode.WRITE):
                            m.next = "Write"
                        with m.Case(Opcode.READ, Opcode.RUN):
                            m.d.sync += ran.eq(check.again)
                            m.next = "Reach"
                        with m.Default():
                            m.d.sync += status.eq(Status.UNKNOWN)
                            m.next = "Status"

            with m.State("Write"):
                # A word is written as its high byte arrives.
                with m.If(check.drop):
                    m.next = "Command"
                with m.Elif(words == 0):
                    m.next = "Written"
                with m.Else():
                    m.d.comb += rx.ready.eq(1)
                    with m.If(rx.valid):
                        m.d.sync += [low.eq(rx.payload), high_byte.eq(~high_byte)]
                        with m.If(high_byte):
                            # What follows a word beyond the end is beyond it too.
                            m.d.comb += self.write.enable.eq(in_range & (status == Status.OK))
                            m.d.sync += [counter.eq(counter + 1), words.eq(words - 1)]
                            with m.If(~in_range):
                                m.d.sync += status.eq(Status.RANGE)

            with m.State("Written"):
                with m.If(check.drop):
                    m.next = "Command"
                with m.Elif(check.intact):
                    m.next = "Status"

            with m.State("Reach"):
                # Of what is to be read, which of a run is its result.
                beyond = address[end:].any() | words[end:].any()
                m.next = "Status"
                with m.If(beyond | (address[:end] + words[:end] > sizes[Region.SPIKES])):
                    m.d.sync += status.eq(Status.RANGE)
                with m.Elif((opcode == Opcode.RUN) & ~ran):
                    m.next = "Start"

            with m.State("Start"):
                with m.If((self.first + self.count > engine.layer_depth) | ~legal):
                    m.d.sync += status.eq(Status.RANGE)
                    m.next = "Status"
                with m.Else():
                    m.d.comb += self.start.eq(1)
                    m.d.sync += cycles.eq(0)
                    m.next = "Running"

            with m.State("Running"):
                m.d.sync += cycles.eq(cycles + self.busy)
                with m.If(~self.busy):
                    m.next = "Status"

            with m.State("Status"):
                send(status, "Data")

            with m.State("Data"):
                m.d.comb += tx.payload.eq(info[index])
                with m.If(status != Status.OK):
                    m.next = "Command"
                with m.Elif(opcode == Opcode.INFO):
                    send(info[index], "Data")
                    with m.If(tx.ready):
                        m.d.sync += index.eq(index + 1)
                        with m.If(index == len(encode_info(engine)) - 1):
                            m.next = "Command"
                with m.Elif((opcode == Opcode.RUN) & (index != 4)):
                    send(cycles.word_select(index[:2], 8), "Data")
                    with m.If(tx.ready):
                        m.d.sync += index.eq(index + 1)
                with m.Elif(words != 0):
                    m.next = "Read"
                with m.Else():
                    m.next = "Command"

            with m.State("Read"):
                m.d.comb += self.read.enable.eq(1)
                m.next = "Low byte"

            with m.State("Low byte"):
                send(self.read.data[:8], "High byte")

            with m.State("High byte"):
                send(self.read.data[8:], "Data")
                with m.If(tx.ready):
                    m.d.sync += [counter.eq(counter + 1), words.eq(words - 1)]
        return m

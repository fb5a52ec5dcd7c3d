"""The command port: bytes in, bytes out (``sw.protocol`` defines them)."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bus import ADDRESS_BITS, HostRead, HostWrite
from sw.program import Region, region_words
from sw.protocol import Opcode, Status, encode_info

__all__ = ["Port"]


class Port(wiring.Component):
    """Reads one command at a time, carries it out, replies. Replies wait for ``tx.ready``.

    Members
    -------
    rx, tx : command and reply bytes.
    write, read : the memories.
    start, first, count, busy, cycles : the sequencer.
    """

    def __init__(self, engine):
        self.engine = engine
        super().__init__({
            "rx": In(stream.Signature(8)),
            "tx": Out(stream.Signature(8)),
            "write": Out(HostWrite),
            "read": Out(HostRead),
            "start": Out(1),
            "first": Out(8),
            "count": Out(8),
            "busy": In(1),
            "cycles": In(32),
        })

    def elaborate(self, platform):
        m = Module()
        engine = self.engine
        rx, tx = self.rx, self.tx

        opcode = Signal(Opcode)
        wanted = Signal(3)
        # Arguments shift in from the top, so the last one ends at the top whatever their number.
        arguments = Signal(56)
        address, words = Signal(ADDRESS_BITS), Signal(24)
        status = Signal(Status)
        low, high_byte = Signal(8), Signal()
        limit = Signal(ADDRESS_BITS + 1)
        in_range = Signal()
        index = Signal(8)

        info = Array(encode_info(engine))
        sizes = {region: region_words(engine, region) for region in Region}
        limits = Array(sizes.get(region, 0) for region in range(8))
        region = Signal(8)
        m.d.comb += [
            self.write.region.eq(region),
            self.write.address.eq(address),
            self.write.data.eq(Cat(low, rx.payload)),
            self.read.address.eq(address),
        ]

        with m.If(region[3:] == 0):
            m.d.comb += limit.eq(limits[region[:3]])
        # An address stands for at least two cycles, the two bytes of its word, before it is used.
        m.d.sync += in_range.eq(address < limit)

        def send(payload, following):
            m.d.comb += [tx.payload.eq(payload), tx.valid.eq(1)]
            with m.If(tx.ready):
                m.next = following

        with m.FSM():
            with m.State("Command"):
                m.d.comb += rx.ready.eq(1)
                m.d.sync += [index.eq(0), high_byte.eq(0), status.eq(Status.OK)]
                with m.If(rx.valid):
                    m.d.sync += opcode.eq(rx.payload)
                    with m.Switch(rx.payload):
                        with m.Case(Opcode.INFO):
                            m.next = "Status"
                        with m.Case(Opcode.WRITE):
                            m.d.sync += wanted.eq(7)
                            m.next = "Arguments"
                        with m.Case(Opcode.READ):
                            m.d.sync += wanted.eq(6)
                            m.next = "Arguments"
                        with m.Case(Opcode.RUN):
                            m.d.sync += wanted.eq(2)
                            m.next = "Arguments"
                        with m.Default():
                            m.d.sync += status.eq(Status.UNKNOWN)
                            m.next = "Status"

            with m.State("Arguments"):
                m.d.comb += rx.ready.eq(1)
                with m.If(rx.valid):
                    m.d.sync += [
                        arguments.eq(Cat(arguments[8:], rx.payload)), wanted.eq(wanted - 1),
                    ]
                    with m.If(wanted == 1):
                        m.next = "Execute"

            with m.State("Execute"):
                m.d.sync += [
                    region.eq(Mux(opcode == Opcode.READ, Region.SPIKES, arguments[0:8])),
                    address.eq(arguments[8:32]),
                    words.eq(arguments[32:56]),
                    self.first.eq(arguments[40:48]),
                    self.count.eq(arguments[48:56]),
                ]
                with m.If(opcode == Opcode.RUN):
                    m.next = "Start"
                with m.Elif(opcode == Opcode.READ):
                    m.next = "Check read"
                with m.Else():
                    m.next = "Write"

            with m.State("Write"):
                # A word is written as its high byte arrives.
                with m.If(words == 0):
                    m.next = "Status"
                with m.Else():
                    m.d.comb += rx.ready.eq(1)
                    with m.If(rx.valid):
                        m.d.sync += [low.eq(rx.payload), high_byte.eq(~high_byte)]
                        with m.If(high_byte):
                            # What follows a word beyond the end is beyond it too.
                            m.d.comb += self.write.enable.eq(in_range & (status == Status.OK))
                            m.d.sync += [address.eq(address + 1), words.eq(words - 1)]
                            with m.If(~in_range):
                                m.d.sync += status.eq(Status.RANGE)

            with m.State("Check read"):
                with m.If((address + words) > limit):
                    m.d.sync += [status.eq(Status.RANGE), words.eq(0)]
                m.next = "Status"

            with m.State("Start"):
                with m.If((self.first + self.count > engine.layer_depth) | (self.count == 0)):
                    m.d.sync += status.eq(Status.RANGE)
                    m.next = "Status"
                with m.Else():
                    m.d.comb += self.start.eq(1)
                    m.next = "Running"

            with m.State("Running"):
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
                with m.Elif(opcode == Opcode.RUN):
                    send(self.cycles.word_select(index[:2], 8), "Data")
                    with m.If(tx.ready):
                        m.d.sync += index.eq(index + 1)
                        with m.If(index == 3):
                            m.next = "Command"
                with m.Elif((opcode == Opcode.READ) & (words != 0)):
                    m.d.comb += self.read.enable.eq(1)
                    m.next = "Low byte"
                with m.Else():
                    m.next = "Command"

            with m.State("Low byte"):
                send(self.read.data[:8], "High byte")

            with m.State("High byte"):
                send(self.read.data[8:], "Data")
                with m.If(tx.ready):
                    m.d.sync += [address.eq(address + 1), words.eq(words - 1)]
        return m

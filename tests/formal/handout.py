"""From a tile's last operand to its groups of channels: none is lost, and none comes twice."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.array import Array
from hw.mac import Mac
from hw.neurons import Neurons
from hw.record import layer_layout
from hw.scale import Scale
from sw.program import Region
from tests.formal.neurons import History
from tests.formal.proof import Circuit, InputsOf, elaborated, inside
from tests.formal.sums import SMALL
from tests.hw import support
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


class HandOutSpec(InputsOf):
    """``latency`` cycles behind a tile's last operand its groups leave, channel 0 first.

    One a cycle, with ``slow`` one in four, of a MAC once in each pass in use. They hold the sums
    that stood at the end of the tile, and nothing else leaves. Assumed: last operands are as far
    apart as the groups need (proofs ``tiles-apart``), and the record stands until they have left.
    """

    def __init__(self, unit, *arguments):
        super().__init__(unit(*arguments))

    def elaborate(self, platform):
        m = Module()
        unit = self.dut
        circuit, inner = elaborated(unit)
        m.submodules.unit = circuit
        registers = inside(circuit)
        m.d.comb += self.connected()
        slow, first_pass = (getattr(self, name, Const(0)) for name in ("slow", "first_pass"))
        passes = getattr(unit, "passes", 1)
        most = 4 * unit.groups * passes
        groups, apart = (Signal(range(most + 1), name=name) for name in ("all_groups", "apart"))
        m.d.comb += [
            groups.eq((passes - first_pass) * unit.groups),
            apart.eq(Mux(slow, groups << 2, groups)),
            Assume(first_pass < passes),
        ]

        # Cycles since the sums stood, as long as groups are to leave, and those that have left.
        history, busy = History(m, unit.latency), Signal()
        since, gone = (Signal(range(most + 1), name=name) for name in ("since", "gone"))
        record, stood = Cat(slow, first_pass), Signal(8)
        done = history.ago(self.valid & self.last, unit.latency - 1)
        m.d.sync += [stood.eq(record), since.eq(Mux(done, 0, since + 1))]
        with m.If(done):
            m.d.sync += busy.eq(1)
        with m.Elif(since + 1 == apart):
            m.d.sync += busy.eq(0)
        m.d.comb += [
            gone.eq(Mux(slow, (since + 3) >> 2, since)),
            Assume(~busy | ((record == stood) & (~done | (since + 1 == apart)))),
            Assert(unit.out_valid == (busy & (~slow | (since[:2] == 0)))),
            # What of the state is reached at all.
            Assert(registers["left"] == Mux(busy, groups - gone, 0)),
            Assert(~busy | (since < apart)),
        ]
        if "turn" in registers:
            m.d.comb += Assert(~busy | (registers["turn"] == since[:2]))

        # The sums as they stood, from the first that has not left.
        bits, sums = len(Cat(unit.out[0])), inner.get("currents", inner["accumulators"])
        held = Signal(bits * unit.pe, reset_less=True)
        with m.If(done):
            m.d.sync += held.eq(Cat(Cat(sums[p])[:bits] for p in range(unit.pe)))
        rotates = hasattr(self, "first_pass")
        for p in range(unit.pe):
            place = Signal(range(most * unit.units + unit.pe), name=f"place{p}")
            m.d.comb += place.eq(gone * unit.units + p)
            known = busy if rotates else busy & (place < unit.pe)
            channel = held.word_select(place[: unit.pe.bit_length() - 1], bits)
            m.d.comb += Assert(~known | (registers["waiting"].word_select(p, bits) == channel))
            if p < unit.units:
                m.d.comb += Assert(~unit.out_valid | (Cat(unit.out[p]) == channel))
        return m


class GroupsReachPoolSpec(wiring.Component):
    """A group of channels that fires comes to the Pool so many cycles later, and nothing else.

    Over those cycles, whatever the registers hold at first: so for all time.
    """

    def __init__(self, engine):
        self.neurons = Neurons(engine, Region.CHANNELS, Region.MEANS)
        super().__init__({"valid": In(1), "fires": In(1), "layer": In(layer_layout(engine))})

    def elaborate(self, platform):
        m = Module()
        neurons = self.neurons
        m.submodules.neurons, inner = elaborated(neurons)
        latency = 1 + inner["lif"].latency + Scale.latency * neurons.engine.has_stream
        m.d.comb += [
            neurons.valid.eq(self.valid), neurons.fires.eq(self.fires),
            neurons.layer.eq(self.layer),
        ]
        History(m, latency).follows(inner["pool"].valid, self.valid & self.fires, latency)
        return m


def _array(**others):
    return Array, SimpleNamespace(**{**vars(SMALL), **others})


PROOFS = [
    *(
        Circuit(
            f"{name}-hands-out",
            "each group of a finished tile leaves once, in order, at its time, and nothing else",
            partial(HandOutSpec, *unit), Mutation("hw/tile.py", *error), depth=7, inductive=True,
        )
        for name, unit, error in (
            ("array", _array(), (
                "m.d.sync += left.eq(left - 1)", "m.d.sync += left.eq(left - 1 - (left == 2))",
                "the last group of two is lost",
            )),
            ("array-slow", _array(pe=8, simd=8, units=2, groups=4, deep=True, has_stream=True), (
                "turn.eq(Mux(done, 0, turn + 1))", "turn.eq(turn + 1)",
                "the first group waits for its turn",
            )),
            ("mac", (Mac, 4, 1, 16), (
                "waiting[p].eq(waiting[p + unit.units]) for p in range(unit.pe - unit.units)",
                "waiting[p].eq(waiting[p + unit.units]) for p in range(unit.pe - unit.units - 1)",
                "the last group is the one before it",
            )),
            ("mac-passes", (Mac, 4, 1, 16, 4), (
                "unit.passes * unit.groups\n", "(unit.passes - 1) * unit.groups\n",
                "all passes are one too many",
            )),
        )
    ),
    *(
        Circuit(
            f"groups-reach-pool{name}",
            "a group of channels comes to the Pool so many cycles later, and nothing else",
            partial(GroupsReachPoolSpec, engine), Mutation(*error), depth=12, anywhere=True,
            slow=engine.has_stream,
        )
        for name, engine, error in (
            ("", support.SMALL, (
                "hw/lif.py", "range(self.latency):\n            following = Signal(name=f\"valid",
                "range(self.latency - 1):\n            following = Signal(name=f\"valid",
                "spikes are late by a cycle",
            )),
            ("-stream", replace(support.SMALL, stream_depth=16), (
                "hw/neurons.py", "for stage in range(Scale.latency):",
                "for stage in range(Scale.latency - 1):", "scaled currents are late by a cycle",
            )),
        )
    ),
]

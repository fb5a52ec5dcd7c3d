"""A stem core that works a frame ahead: its words wait for those of the other core."""

from functools import partial
from types import SimpleNamespace

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In

from hw.accelerator import Accelerator
from hw.spikes import BANK
from sw.protocol import Flags
from tests.formal.addresses import LogitSpec
from tests.formal.proof import Circuit
from tests.hw.support import TWO, TWO_IN_PASSES
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


def _word(engine):
    """What goes to the spike memory at once."""
    width = engine.simd * engine.lanes
    return StructLayout({
        "write_banks": width // BANK, "write_address": range(engine.spike_depth),
        "write_data": width,
    })


class WordsApartSpec(LogitSpec):
    """A Writer without strips never writes in two cycles running, spikes or a Readout's logits.

    Assumed is what ``LogitSpec`` assumes.
    """

    def elaborate(self, platform):
        m = super().elaborate(platform)
        wrote, writes = Signal(), self.dut.write_banks.any()
        m.d.sync += wrote.eq(writes)
        m.d.comb += Assert(~(writes & wrote))
        return m


class AheadSpec(wiring.Component):
    """What two cores write at once is all written, and nothing in the row and cycle it is read.

    The core's words go to the memory at once, and each of the stem's once, at most two cycles
    behind. Assumed:

    - neither core has words in two cycles running (``words-apart``);
    - the stem writes rows of its map; the core reads and writes none of these (``maps-apart``) for
      as long as such a word may wait. The map is another only if there was no word in the last two
      cycles: the port starts a run no sooner (``host-waits``);
    - the core alone reads no row as it writes it (``tests.formal.addresses``). The stem reads none.
    """

    def __init__(self, engine):
        self.engine = engine
        row = range(engine.spike_depth)
        super().__init__({
            "core": In(_word(engine)), "stem": In(_word(engine)), "start": In(1),
            "reads": In(1), "row": In(row), "first": In(row), "last": In(row),
        })

    def elaborate(self, platform):
        m, arbiter = Module(), Module()
        engine = self.engine
        written = _word(engine).members
        # The members of port, memory and cores that are connected.
        run = {"start": 1, "first": 8, "count": 8, "flags": len(Flags), "busy": 1, "side": 1}
        of_core = {**written, **run, "before": 1, "totals": 1}
        port, spikes, core, stem = (
            SimpleNamespace(**{name: Signal(shape, name=name) for name, shape in members.items()})
            for members in (run, written, of_core, of_core)
        )
        Accelerator._work_ahead(self, arbiter, port, spikes, core, stem)
        m.submodules.arbiter = arbiter
        m.d.comb += port.start.eq(self.start)
        for source, given in ((core, self.core), (stem, self.stem)):
            m.d.comb += [getattr(source, name).eq(getattr(given, name)) for name in written]
        word = Cat(spikes.write_banks, spikes.write_address, spikes.write_data)
        core_writes, stem_writes = core.write_banks.any(), stem.write_banks.any()

        # The stem's word that is to be written, and in which cycles there was one.
        due, held, came = Signal(), Signal(len(word)), Signal(2)
        core_wrote, stem_wrote = Signal(), Signal()
        m.d.sync += [
            came.eq(Cat(stem_writes, came)), due.eq(stem_writes | (due & core_writes)),
            core_wrote.eq(core_writes), stem_wrote.eq(stem_writes),
        ]
        with m.If(stem_writes):
            m.d.sync += held.eq(self.stem)
        bounds = Cat(self.first, self.last)
        bounds_were = Signal(len(bounds))
        m.d.sync += bounds_were.eq(bounds)

        def in_map(row):
            return (row >= self.first) & (row <= self.last)

        m.d.comb += [
            Assume(~(core_writes & core_wrote)), Assume(~(stem_writes & stem_wrote)),
            Assume(~came.any() | (bounds == bounds_were)),
            Assume(~stem_writes | in_map(stem.write_address)),
            Assume(~core_writes | ~in_map(core.write_address)),
            Assume(~self.reads | ~in_map(self.row)),
            Assume(~(self.reads & core_writes) | (self.row != core.write_address)),
            # All is written, at once or a little later.
            Assert(word == Mux(core_writes, self.core.as_value(), Mux(due, held, word))),
            Assert(core_writes | due | ~Cat(spikes.write_banks, spikes.write_data).any()),
            Assert(~(due & core_writes & stem_writes)),
            Assert(~due | came.any()),
            Assert(~(self.reads & spikes.write_banks.any() & (self.row == spikes.write_address))),
            # What of the state is reached at all.
            Assert(~due | in_map(held[len(spikes.write_banks) :][: len(self.row)])),
        ]
        return m


PROOFS = [
    *(
        Circuit(
            f"words-apart{name}", "a core without strips never writes in two cycles running",
            partial(WordsApartSpec, engine), Mutation("hw/" + path, *change),
            depth=7, inductive=True,
        )
        for name, engine, path, *change in (
            ("", TWO, "readout.py", "done.eq(summed & (plane == PLANES - 1))", "done.eq(summed)",
             "each plane is a logit"),
            ("-passes", TWO_IN_PASSES, "writer.py", "flush.eq(self.passed & ends_tile)",
             "flush.eq(self.passed)", "each group is a tile"),
            ("-stem", TWO.stem, "writer.py", "ends_tile.eq(group[:group_bits].all())",
             "ends_tile.eq(group[1:group_bits].all())", "each tile ends twice"),
        )
    ),
    Circuit(
        "stem-waits", "words of two cores are all written, and no row as it is read",
        partial(AheadSpec, TWO), Mutation(
            "hw/accelerator.py", "with m.Elif(~core_writes):", "with m.Else():",
            "a word waits for one cycle, whether or not it is written",
        ),
        depth=2, inductive=True,
    ),
]

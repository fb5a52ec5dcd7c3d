"""The carry cells of ECP5 are proven to compute what the plain sums do, by a SAT solver."""

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import carry
from hw.boards import BOARDS
from hw.popcount import Popcount
from hw.tools import BuildError, run_tool

ECP5, ICE40 = BOARDS["ulx3s-85f"].platform, BOARDS["icebreaker"].platform

#: What a LUT is; the rest of a CCU2C is Yosys' own model.
LUTS = """
module LUT4(input A, B, C, D, output Z);
    parameter [15:0] INIT = 0;
    wire [3:0] index = {D, C, B, A};
    assign Z = INIT[index];
endmodule
module LUT2(input A, B, output Z);
    parameter [3:0] INIT = 0;
    wire [1:0] index = {B, A};
    assign Z = INIT[index];
endmodule
"""

#: What registers start with is left open: the fourth cycle stands for all.
SCRIPT = """
read_rtlil plain.il
read_rtlil cells.il
read_verilog +/ecp5/ccu2c_sim.vh
read_verilog luts.v
setattr -mod -unset top plain cells
hierarchy -check
proc
flatten
opt_clean
miter -equiv -flatten -make_outputs -make_assert plain cells miter
hierarchy -top miter
proc
opt
sat -verify -prove-asserts -tempinduct -seq 3 miter
"""


def prove(component, folder):
    """Prove that ``component`` is the same with and without ECP5's cells. BuildError if not."""
    files = {"luts.v": LUTS, "prove.ys": SCRIPT}
    for name, platform in (("plain", None), ("cells", ECP5())):
        files[f"{name}.il"] = rtlil.convert(
            component(), name=name, platform=platform, emit_src=False
        )
    assert "CCU2C" in files["cells.il"] and "CCU2C" not in files["plain.il"]
    for name, content in files.items():
        (folder / name).write_text(content)
    run_tool("yosys", ["prove.ys"], folder)


class Accumulator(wiring.Component):
    """A sum with a restart, in either form."""

    def __init__(self):
        super().__init__({
            "total": In(9), "addend": In(4), "restart": In(1), "out": Out(9),
        })

    def elaborate(self, platform):
        m = Module()
        if carry.has_carry_cells(platform):
            m.d.comb += self.out.eq(carry.accumulate(m, self.total, self.addend, self.restart))
        else:
            m.d.comb += self.out.eq(self.total + self.addend)
            with m.If(self.restart):
                m.d.comb += self.out.eq(self.addend)
        return m


# 8 leaves two positions over, 16 one.
@pytest.mark.parametrize("deep", [False, True], ids=["flat", "deep"])
@pytest.mark.parametrize("simd", [8, 16, 32])
def test_popcounts_agree_for_all_inputs(simd, deep, tmp_path):
    prove(lambda: Popcount(simd, deep), tmp_path)


def test_accumulators_agree_for_all_inputs(tmp_path):
    prove(Accumulator, tmp_path)


@pytest.mark.parametrize("name, value, component", [
    ("FEED", 0x0006, lambda: Popcount(8)), ("ADD", 0x9668, lambda: Popcount(8)),
    ("HAND_OUT", 0x0001, lambda: Popcount(8)), ("ADD", 0x9668, lambda: Popcount(8, deep=True)),
    ("RESTART", 0xA50A, Accumulator),
])
def test_wrong_contents_of_a_lut_are_noticed(name, value, component, tmp_path, monkeypatch):
    monkeypatch.setattr(carry, name, value)
    with pytest.raises(BuildError, match="proof did fail"):
        prove(component, tmp_path)


def test_only_ecp5_has_the_cells():
    assert carry.has_carry_cells(ECP5())
    assert not carry.has_carry_cells(ICE40()) and not carry.has_carry_cells(None)

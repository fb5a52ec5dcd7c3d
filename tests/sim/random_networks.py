"""Networks drawn over all that the hardware can do, run on engines of several foldings.

Sixteen run with the tests. Many more, with a report: python -m tests.sim.random_networks
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from tqdm import tqdm

from sim.run import make_plan, simulate
from sim.simulators import source_digest
from sw.bounds import ExportError
from sw.cycles import cycles_per_frame
from sw.engine import Engine, EngineError
from sw.files import replace_file
from sw.golden import IntegerNetwork
from sw.layers import (
    LEAKS,
    AveragedConv,
    AveragedReadout,
    Conv,
    Events,
    Network,
    Pixels,
    Readout,
    ResidualConv,
    Shape,
    Stem,
)
from sw.program import compile_program
from sw.strips import strips
from tests.support import random_frames, random_image

__all__ = ["ENGINES", "RESULTS", "Case", "cases", "main", "run"]

RESULTS = Path("results/random-networks.json")

#: Maps of 64 x 64 pixels need all this room.
_ONE = Engine(
    pe=4, simd=16, lanes=4, weight_depth=4096, spike_depth=16384, frame_depth=8192,
    channel_depth=512, mean_depth=4096,
)
_TWO = replace(_ONE, pe=8, simd=32, units=2, deep=True)
ENGINES = {
    "one unit": _ONE,
    "four units": replace(_ONE, pe=16, lanes=8, units=4, deep=True, current_width=18),
    "two cores": replace(_TWO, stem=_TWO.stem_core(pe=4, units=1)),
    "two strips": replace(_ONE, pixels=2),
    "four strips, two units": replace(_ONE, pe=8, lanes=8, pixels=4, units=2, deep=True),
    "four passes": replace(_ONE, passes=4),
    "eight passes, two cores": replace(
        _TWO, lanes=2, passes=8, stem=replace(_TWO, lanes=2, passes=8).stem_core(units=1)
    ),
    "four passes, two strips": replace(_ONE, pixels=2, passes=4),
    "shortcuts": replace(_ONE, stream_depth=32768, layer_depth=16),
    "shortcuts, two units, four passes": replace(
        _TWO, lanes=2, passes=4, stream_depth=32768, layer_depth=16
    ),
}

FRAMES = 2

#: A network that takes more cycles a frame is left out: the next one says as much.
LONGEST = 120_000


@dataclass(frozen=True)
class Case:
    engine: str
    network: Network
    gain: str
    seed: int

    @property
    def image(self):
        return random_image(self.network, self.seed, self.gain)

    def features(self):
        """What of the hardware it uses, each as one word or two."""
        network, engine = self.network, ENGINES[self.engine]
        several_passes = engine.passes_of(network.T) > 1
        yield self.engine
        yield f"T={network.T}"
        yield f"tau={network.tau}"
        yield f"{self.gain} gain" if network.neuron == "agmm" else "no gain"
        side = max(network.input.height, network.input.width)
        yield "input up to 8" if side <= 8 else "input up to 32" if side <= 32 else "input up to 64"
        for layer, shape in zip(network.layers[:-1], network.shapes, strict=False):
            if isinstance(layer, (Events, Pixels)):
                levels = "one level" if layer.levels == 1 else "several levels"
                yield f"{type(layer).__name__.lower()} of {levels}"
                continue
            if isinstance(layer, AveragedConv):
                yield "average pooling"
            if isinstance(layer, ResidualConv):
                yield (
                    "projecting shortcut" if layer.projection
                    else "averaging shortcut" if layer.stride == 2 else "shortcut"
                )
                if layer.projection and several_passes:
                    yield "projection in several passes"
            yield f"{type(layer).__name__.lower()} {layer.kernel}x{layer.kernel}"
            yield f"stride {layer.stride}"
            yield "padding" if layer.padding else "no padding"
            yield f"pool {layer.pool}"
            if not isinstance(layer, Stem) and shape.height == shape.width == 1:
                yield "1x1 map"
            if layer.kernel == shape.height == shape.width > 1 and not layer.padding:
                yield "fully connected"
        if isinstance(network.layers[-1], AveragedReadout):
            yield "global average pooling"
        if several_passes:
            yield "several passes"
        if engine.pixels > 1:
            yield "strips"
            cuts = strips(network.plain, engine)
            for shape, strip in zip(network.shapes[1:], cuts, strict=False):
                if shape.height < engine.pixels * strip.rows:
                    yield "strips beyond the map"
                if strip.above or strip.below:
                    yield "halos"
        if any(shape.channels % engine.pe for shape in network.shapes[1:]):
            yield "channels not multiples of pe"


@st.composite
def _windows(draw, kind, shape):
    """A Stem or Conv that leaves something of a map of ``shape``."""
    side = min(shape.height, shape.width)
    channels = draw(st.integers(1, 36))
    if kind is AveragedConv:
        even = shape.height % 2 == shape.width % 2 == 0
        kernel = draw(st.integers(1, min(4, side // 2)))
        layer = kind(channels, kernel, padding=draw(st.integers(0, int(even and kernel > 1))))
    else:
        most = [min(k // 2, 3) for k in range(9)]
        usual = [k for k in (1, 3, 5) if side + 2 * most[k] >= k]
        whole = [side] if shape.height == shape.width <= 8 else []
        kernel = draw(st.sampled_from(usual + whole) | st.integers(1, min(8, side)))
        padding = draw(st.integers(max(0, (kernel - side + 1) // 2), most[kernel]))
        layer = kind(channels, kernel, draw(st.sampled_from((1, 2))), padding)
    left = layer.conv_shape(shape)
    if min(left.height, left.width) > 1:
        layer = replace(layer, pool=draw(st.sampled_from((1, 2))))
    return layer


@st.composite
def _residual(draw, shape):
    """A ResidualConv over a map of ``shape``."""
    kernel = draw(st.sampled_from((1, 3, 5)))
    if draw(st.integers(0, 2)) == 0:
        stride = draw(st.sampled_from((1, 2)))
        return ResidualConv(draw(st.integers(1, 36)), kernel, stride, projection=True)
    if shape.height % 2 or shape.width % 2 or draw(st.booleans()):
        return ResidualConv(shape.channels, kernel)
    return ResidualConv(draw(st.integers(shape.channels, 2 * shape.channels)), kernel, 2)


@st.composite
def cases(draw, engines=tuple(ENGINES)):
    """A Case that fits its engine and takes no more than LONGEST."""
    name = draw(st.sampled_from(engines))
    engine = ENGINES[name]
    sides = st.one_of(st.integers(1, 16), st.integers(1, 64))
    shape = Shape(draw(st.integers(1, 4)), draw(sides), draw(sides))
    layers, shapes, out = [], [shape], shape
    kind = draw(st.sampled_from((Stem, Events, Pixels)))
    layers.append(draw(_windows(Stem, out)) if kind is Stem else kind(draw(st.integers(1, 4))))
    out = layers[0].output_shape(out)
    for _ in range(draw(st.integers(2 if engine.has_stream else 0, 4))):
        averages = min(out.height, out.width) > 1 and draw(st.integers(0, 3)) == 0
        if engine.has_stream and len(layers) > (kind is not Stem) and draw(st.integers(0, 3)):
            layers[-1] = replace(layers[-1], pool=1)
            out = layers[-1].output_shape(shapes[-1])
            layer = draw(_residual(out))
        else:
            layer = draw(_windows(AveragedConv if averages else Conv, out))
        shapes.append(out)
        layers.append(layer)
        out = layers[-1].output_shape(out)
    network = Network(
        "random", shape,
        [*layers, draw(st.sampled_from((Readout, AveragedReadout)))(draw(st.integers(1, 12)))],
        T=draw(st.integers(1, engine.steps * engine.passes)),
        tau=draw(st.sampled_from([tau for tau, s in LEAKS.items() if s in engine.leak_shifts])),
        neuron=draw(st.sampled_from(("agmm", "vanilla"))),
    )
    gains = ("exact", "frozen") if engine.exact_gain else ("frozen",)
    case = Case(name, network, draw(st.sampled_from(gains)), draw(st.integers(0, 1 << 20)))
    try:
        assume(cycles_per_frame(network.plain, engine) <= LONGEST)
        compile_program(case.image, engine)
    except (EngineError, ExportError):
        assume(False)
    return case


def run(case, golden=None):
    """The result of simulating a case; ``golden`` is of another image where a test wants that."""
    frames = random_frames(case.network, FRAMES, case.seed).numpy()
    return simulate(make_plan(
        case.image, IntegerNetwork(golden or case.image), frames, ENGINES[case.engine]
    ))


def main(argv=None):
    """Exit status 0 if all are equal, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.random_networks", description=f"{__doc__} Writes {RESULTS}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: 1)")
    args = parser.parse_args(argv)
    seen, totals, differences = Counter(), Counter(), []

    with tqdm(total=args.networks, unit="network", disable=None) as bar:

        @seed(args.seed)
        @settings(
            max_examples=args.networks, deadline=None, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )
        @given(cases())
        def every(case):
            result = run(case)
            seen.update(set(case.features()))
            totals.update(
                networks=1, frames=result["frames"],
                boundaries=result["frames"] * (len(case.network.layers) - case.network.coded),
                cycles=result["frames"] * result["cycles_per_frame"],
            )
            if result["differences"]:
                differences.append({"case": repr(case), "differences": result["differences"]})
            bar.update()

        every()
    report = {
        "command": f"python -m tests.sim.random_networks --networks {args.networks}"
        f" --seed {args.seed}",
        "sources": {name: source_digest(engine) for name, engine in ENGINES.items()},
        **totals,
        "differences": differences,
        "seen": dict(sorted(seen.items())),
    }
    replace_file(RESULTS, json.dumps(report, indent=2) + "\n")
    print(f"{totals['networks']} networks, {len(differences)} different from the golden model")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a random network is: its engine, its layers, and what the simulation does to both."""

import json
from dataclasses import asdict, dataclass, replace

from sw.engine import Engine
from sw.layers import (
    AveragedConv,
    AveragedReadout,
    Events,
    Network,
    Pixels,
    ResidualConv,
    Stem,
    averages,
)
from sw.strips import strips
from tests.support import random_image

__all__ = ["ENGINES", "STALLS", "Case", "Setting", "form"]

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

#: Streams of the byte port that pause at random.
STALLS = {"no stalls": (), "stalled rx": ("rx",), "stalled tx": ("tx",), "stalls": ("rx", "tx")}


def form(layer):
    """(kind, stride, pool) of a layer: what hardware it takes."""
    kind = type(layer).__name__.lower()
    if isinstance(layer, ResidualConv):
        way = "projecting" if layer.projection else "averaging" if averages(layer) else "plain"
        kind = f"{way} shortcut"
    return kind, getattr(layer, "stride", 1), getattr(layer, "pool", 1)


@dataclass(frozen=True)
class Setting:
    """What a network runs in; None where that does not matter.

    passes: "one" or "several". gain: "exact", "frozen" or "none". stalls: one of STALLS.
    rubbish: whether memories return rubbish where a row is read and written (``sim.collisions``).
    """

    engine: str | None = None
    passes: str | None = None
    gain: str | None = None
    stalls: str | None = None
    rubbish: bool | None = None

    def __str__(self):
        words = (
            self.engine, self.passes and f"passes: {self.passes}",
            self.gain and f"gain: {self.gain}", self.stalls, self.rubbish and "rubbish",
        )
        return ", ".join(filter(None, words))

    def fits(self, engine):
        """Whether an engine of ENGINES, by name, has what it takes."""
        return (
            self.engine in (None, engine)
            and (self.passes != "several" or ENGINES[engine].passes > 1)
            and (self.gain != "exact" or ENGINES[engine].exact_gain)
        )


@dataclass(frozen=True)
class Case:
    engine: str
    network: Network
    gain: str
    seed: int
    stalls: str = "no stalls"
    rubbish: bool = False

    def to_json(self):
        return json.dumps({**asdict(self), "network": self.network.to_dict()})

    @classmethod
    def from_json(cls, text):
        """Inverse of ``to_json``. Raises ValueError, KeyError or TypeError."""
        data = json.loads(text)
        case = cls(**{**data, "network": Network.from_dict(data["network"])})
        if case.engine not in ENGINES or case.stalls not in STALLS:
            raise ValueError(f"no such engine or stalls: {case.engine}, {case.stalls}")
        return case

    @property
    def image(self):
        return random_image(self.network, self.seed, self.gain)

    @property
    def passes(self):
        return "several" if ENGINES[self.engine].passes_of(self.network.T) > 1 else "one"

    def gain_of(self, index):
        """The gain of a layer, as in Setting."""
        return self.gain if self.network.has_agmm(index) else "none"

    def features(self):
        """What of the hardware it uses, each as one word or two."""
        network, engine = self.network, ENGINES[self.engine]
        several_passes = self.passes == "several"
        yield self.engine
        yield f"T={network.T}"
        yield f"tau={network.tau}"
        yield self.stalls
        if self.rubbish:
            yield "rubbish where a row is read and written"
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

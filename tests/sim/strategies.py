"""Random networks over all that the hardware can do, drawn by hypothesis."""

from dataclasses import replace

from hypothesis import assume
from hypothesis import strategies as st

from sw.bounds import ExportError
from sw.cycles import cycles_per_frame
from sw.engine import EngineError
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
from tests.sim.random_cases import ENGINES, STALLS, Case, Setting, form

__all__ = ["cases"]

#: A network that takes more cycles a frame is left out: the next one says as much.
LONGEST = 120_000

#: Kinds that may be the first layer, and the last.
FIRST = {"stem": Stem, "events": Events, "pixels": Pixels}
LAST = {"readout": Readout, "averagedreadout": AveragedReadout}


@st.composite
def _windows(draw, kind, shape, stride=None, pool=None):
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
        layer = kind(channels, kernel, stride or draw(st.sampled_from((1, 2))), padding)
    left = layer.conv_shape(shape)
    if min(left.height, left.width) > 1:
        layer = replace(layer, pool=pool or draw(st.sampled_from((1, 2))))
    return layer


@st.composite
def _residual(draw, shape, kind=None, stride=None):
    """A ResidualConv over a map of ``shape``."""
    kernel = draw(st.sampled_from((1, 3, 5)))
    kinds = ["plain shortcut", "projecting shortcut"]
    if shape.height % 2 == shape.width % 2 == 0:
        kinds.append("averaging shortcut")
    kind = kind or draw(st.sampled_from(kinds))
    if kind == "projecting shortcut":
        stride = stride or draw(st.sampled_from((1, 2)))
        return ResidualConv(draw(st.integers(1, 36)), kernel, stride, projection=True)
    if kind == "plain shortcut" or kind not in kinds:
        return ResidualConv(shape.channels, kernel)
    return ResidualConv(draw(st.integers(shape.channels, 2 * shape.channels)), kernel, 2)


@st.composite
def _middle(draw, shape, residual, wanted):
    """A layer between the first and the last.

    residual: whether there may be a shortcut around it. wanted: forms, one of which it is then,
    where the map allows that.
    """
    large = min(shape.height, shape.width) > 1
    possible = [
        wish for wish in wanted
        if wish[0] == "conv" or (wish[0] == "averagedconv" and large)
        or (wish[0].endswith("shortcut") and residual)
    ]
    kind = stride = pool = None
    if possible:
        kind, stride, pool = draw(st.sampled_from(possible))
    elif residual and draw(st.integers(0, 3)):
        return draw(_residual(shape))
    elif large and draw(st.integers(0, 3)) == 0:
        kind = "averagedconv"
    if kind and kind.endswith("shortcut"):
        return draw(_residual(shape, kind, stride))
    return draw(_windows(AveragedConv if kind == "averagedconv" else Conv, shape, stride, pool))


@st.composite
def _layers(draw, shape, stream, wanted):
    """All layers but the last. stream: whether there may be shortcuts."""
    kind, stride, pool = draw(st.sampled_from(
        [wish for wish in wanted if wish[0] in FIRST] or [(kind, None, None) for kind in FIRST]
    ))
    if kind == "stem":
        layers = [draw(_windows(Stem, shape, stride, pool))]
    else:
        layers = [FIRST[kind](draw(st.integers(1, 4)))]
    shapes = [shape]
    for _ in range(draw(st.sampled_from((0, 1, 2, 3, 3, 4, 4)))):
        out = layers[-1].output_shape(shapes[-1])
        missing = [wish for wish in wanted if wish not in map(form, layers)]
        residual = stream and isinstance(layers[-1], (Stem, Conv))
        layer = draw(_middle(out, residual, missing))
        if isinstance(layer, ResidualConv):
            # The current that its shortcut adds is that of a whole map.
            layers[-1] = replace(layers[-1], pool=1)
            whole = layers[-1].output_shape(shapes[-1])
            if whole != out:
                layer = draw(_residual(whole, form(layer)[0], layer.stride))
            out = whole
        shapes.append(out)
        layers.append(layer)
    return layers


@st.composite
def cases(draw, engines=tuple(ENGINES), setting=None, wanted=()):
    """A Case that fits its engine and takes no more than LONGEST.

    setting: a Setting that it has. wanted: forms of layers, at least one of which it has.
    """
    # The first that hypothesis tries is the simplest, which says least; nothing is lost by it.
    assume(draw(st.booleans()))
    setting = setting or Setting()
    shortcuts = wanted and all(kind.endswith("shortcut") for kind, *_ in wanted)
    name = draw(st.sampled_from([
        name for name in engines
        if setting.fits(name) and (ENGINES[name].has_stream or not shortcuts)
    ]))
    engine = ENGINES[name]
    sides = st.one_of(st.integers(1, 16), st.integers(1, 64))
    side = draw(sides)
    shape = Shape(draw(st.integers(1, 4)), side, draw(st.just(side) | sides))
    layers = draw(_layers(shape, engine.has_stream, wanted))
    last, *_ = draw(st.sampled_from([wish for wish in wanted if wish[0] in LAST] or [*zip(LAST)]))
    layers.append(LAST[last](draw(st.integers(1, 12))))
    assume(not wanted or set(wanted) & set(map(form, layers)))

    least, most = 1, engine.steps * engine.passes
    if setting.passes:
        least, most = (1, engine.steps) if setting.passes == "one" else (engine.steps + 1, most)
    gain = setting.gain or draw(st.sampled_from(
        ("exact", "frozen", "none") if engine.exact_gain else ("frozen", "none")
    ))
    network = Network(
        "random", shape, layers, T=draw(st.integers(least, most)),
        tau=draw(st.sampled_from([tau for tau, s in LEAKS.items() if s in engine.leak_shifts])),
        neuron="vanilla" if gain == "none" else "agmm",
    )
    case = Case(
        name, network, "exact" if gain == "exact" else "frozen", draw(st.integers(0, 1 << 20)),
        setting.stalls or draw(st.sampled_from(list(STALLS))),
        draw(st.booleans()) if setting.rubbish is None else setting.rubbish,
    )
    try:
        assume(cycles_per_frame(network.plain, engine) <= LONGEST)
        compile_program(case.image, engine)
    except (EngineError, ExportError):
        assume(False)
    return case

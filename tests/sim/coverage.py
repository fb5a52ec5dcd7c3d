"""What the random networks are to meet: bins, as products of what the hardware can do.

Every kind of layer, with each stride and pool, in one pass and in several: with every gain and all
stalls of the byte port on any engine, and without regard to these on every engine. And every
engine with all stalls, its memories returning rubbish in collisions or not.

What cannot be is left out: layers that ``sw.layers`` refuses, gains of layers that have none,
and what an engine has not built in.
"""

from collections import defaultdict
from contextlib import suppress
from itertools import product

from sw.layers import (
    AveragedConv,
    AveragedReadout,
    Conv,
    Events,
    LayerError,
    Pixels,
    Readout,
    ResidualConv,
    Stem,
)
from tests.sim.random_cases import ENGINES, STALLS, Setting, form

__all__ = ["BINS", "bins_in", "bins_of", "describe", "next_holes", "table"]

PASSES = ("one", "several")
GAINS = ("none", "frozen", "exact")


def _forms():
    """(form, whether it has a gain) of every layer that there is."""
    for kind, options in (
        (Stem, {}), (Conv, {}), (AveragedConv, {}), (ResidualConv, {}),
        (ResidualConv, {"projection": True}),
    ):
        for stride, pool in product((1, 2), (1, 2)):
            with suppress(LayerError):
                yield form(kind(1, stride=stride, pool=pool, **options)), issubclass(kind, Conv)
    for layer in (Events(), Pixels(), Readout(1), AveragedReadout(1)):
        yield form(layer), False


def _exists(what, setting):
    """Whether any engine can run a layer of that form, None for any layer, in a Setting."""
    shortcut = what is not None and what[0].endswith("shortcut")
    return any(
        setting.fits(name) and (engine.has_stream or not shortcut)
        for name, engine in ENGINES.items()
    )


def _bins():
    for (what, has_gain), passes in product(_forms(), PASSES):
        for gain, stalls in product(GAINS if has_gain else GAINS[:1], STALLS):
            yield what, Setting(passes=passes, gain=gain, stalls=stalls)
        for engine in ENGINES:
            yield what, Setting(engine=engine, passes=passes)
    for engine, stalls, rubbish in product(ENGINES, STALLS, (False, True)):
        yield None, Setting(engine=engine, stalls=stalls, rubbish=rubbish)


#: (form of a layer or None, Setting) of all that can be.
BINS = tuple(bin_ for bin_ in _bins() if _exists(*bin_))


def bins_of(case):
    """The bins that a Case hits."""
    for index, layer in enumerate(case.network.layers):
        what, passes = form(layer), case.passes
        yield what, Setting(passes=passes, gain=case.gain_of(index), stalls=case.stalls)
        yield what, Setting(engine=case.engine, passes=passes)
    yield None, Setting(engine=case.engine, stalls=case.stalls, rubbish=case.rubbish)


def describe(bin_):
    what, setting = bin_
    if what is None:
        return str(setting)
    kind, stride, pool = what
    return f"{kind}, stride {stride}, pool {pool}, {setting}"


def next_holes(hit):
    """(Setting, forms) of most bins that are not ``hit``, for ``cases``; None if all are."""
    holes = defaultdict(list)
    for what, setting in BINS:
        if (what, setting) not in hit:
            holes[setting].append(what)
    if not holes:
        return None
    setting = max(holes, key=lambda setting: len(holes[setting]))
    return setting, tuple(what for what in holes[setting] if what is not None)


def bins_in(holes):
    """The bins that ``next_holes`` has named."""
    setting, forms = holes
    return {(what, setting) for what in forms or (None,)}


def table(hit):
    """Of every kind of layer, of engines and of all: how many bins there are, and are ``hit``."""
    rows = defaultdict(lambda: {"hit": 0, "bins": 0})
    for bin_ in BINS:
        for name in ("engines" if bin_[0] is None else bin_[0][0], "all"):
            rows[name]["hit"] += bin_ in hit
            rows[name]["bins"] += 1
    return {name: rows[name] for name in sorted(rows, key=lambda name: name == "all")}

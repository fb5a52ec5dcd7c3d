"""Finds an engine for a network on a board: the fastest that fits, or the smallest that will do.

Every legal folding is looked at, with memories as large as the network needs them. Cycles, block
RAMs and multipliers are known exactly beforehand and LUTs to a few percent (``hw.estimate``), so
nothing is synthesised.
"""

import argparse
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import product

from hw.boards import ANY_ENGINE
from hw.estimate import PARTS, estimate
from hw.memory import SPRAM_DEPTH
from hw.sizing import used_words
from hw.tools import BuildError
from sw.cycles import cycles_per_frame
from sw.engine import Engine, EngineError
from sw.layers import Stem
from sw.packing import channel_slot_bits
from sw.program import Region, compile_program
from sw.record import record_stride
from sw.stream import stream_bases

__all__ = [
    "OCCUPANCY", "Choice", "add_options", "fit", "fitted", "shortage", "sized", "with_room",
]

#: The share of logic and of block RAM beyond which routing becomes a matter of luck.
OCCUPANCY = 0.85

POWERS = [1 << power for power in range(8)]

_MEANINGS = {"logic": "logic cells", "bram": "block RAMs", "dsp": "multipliers", "spram": "SPRAMs"}

#: Memories that a stem core has its own of.
_OWN = (Region.WEIGHTS, Region.CHANNELS, Region.MEANS)

#: Of memories that hold any network there may be, and that are cut to size later.
_OWN_ROOM = dict(weight_depth=1 << 20, channel_depth=1 << 16, mean_depth=1 << 16)
_ROOM = dict(spike_depth=1 << 16, frame_depth=1 << 16, layer_depth=255)


@dataclass(frozen=True)
class Choice:
    """An engine for a network, its cycles a frame, and what it takes (``hw.estimate``)."""

    engine: Engine
    cycles: int
    takes: dict


def _fits(image, engine):
    try:
        compile_program(image, engine)
    except EngineError:
        return False
    return True


def with_room(engine):
    """The engine with memories for any network there may be."""
    shared = _ROOM | dict(stream_depth=(1 << 16) * engine.has_stream)
    return _with_depths(engine, shared, _OWN_ROOM, _OWN_ROOM)


def _roomy(image, deep):
    """An engine with room for the network, of any folding. Raises EngineError if there is none."""
    network = image.network
    steps = 1 << (network.T - 1).bit_length()
    streamed = any(map(network.is_streamed, range(len(network.layers))))
    engine = Engine(
        pe=16, simd=32, lanes=steps, **_ROOM, **_OWN_ROOM, current_width=18,
        leak_shifts=(network.leak_shift,), deep=deep, stream_depth=(1 << 16) * streamed,
    )
    compile_program(image, engine)
    widths = [width for width in range(16 if streamed else 8, 18)
              if _fits(image, replace(engine, current_width=width))]
    return replace(engine, current_width=min(widths, default=18))


def _variants(engine, **sizes):
    """The engine with each combination of the ``sizes`` that is legal."""
    for values in product(*sizes.values()):
        try:
            yield replace(engine, **dict(zip(sizes, values, strict=True)))
        except EngineError:
            continue


def _foldings(image, roomy):
    """Every engine of another folding, with stem cores and without, and its cycles."""
    network = image.network
    exact = any(layer.agmm is not None for layer in image.layers)
    for engine in _variants(
        roomy, pe=POWERS, simd=POWERS, lanes=POWERS, units=POWERS,
        pixels=POWERS[:1] if exact else POWERS, passes=POWERS[:5],
    ):
        # As many passes as it takes, and no lanes that never have a step.
        passes = engine.passes_of(network.T)
        if not engine.passes // 2 < passes <= engine.passes or engine.steps >= 2 * network.T:
            continue
        stems = [None]
        if isinstance(network.layers[0], Stem) and not engine.has_stream and engine.pixels == 1:
            stems += _variants(engine.stem_core(**_OWN_ROOM), pe=POWERS, units=POWERS)
        for stem in stems:
            candidate = replace(engine, stem=stem)
            try:
                cycles = cycles_per_frame(
                    network, candidate, image.gain_mode == "exact", ahead=stem is not None
                )
            except EngineError:
                continue
            yield candidate, cycles


def _with_depths(engine, shared, main, stem):
    """The engine with other depths: ``shared`` ones, and those of its ``main`` core and stem."""
    core = replace(engine, **shared, **main, stem=None)
    return replace(core, stem=core.stem_core(**engine.stem.sizes | stem)) if engine.stem else core


def _smallest(engine):
    """The engine with next to no memory: whatever is used of it, it takes no less."""
    shared = dict(
        spike_depth=2, frame_depth=2, layer_depth=2, stream_depth=2 * engine.has_stream
    )
    sizes = [
        dict(weight_depth=2, channel_depth=4 * core.units, mean_depth=2 * core.units)
        for core in (engine, engine.stem or engine)
    ]
    return _with_depths(engine, shared, *sizes)


def _depths(core, weight_bits, words):
    """Depths of a core's own memories that hold so many 16-bit ``words``, by region."""
    def whole(entries, least):
        return core.units * -(-max(entries, least) // core.units)

    return dict(
        weight_depth=max(words[Region.WEIGHTS] * 16 // weight_bits, 2),
        channel_depth=whole(words[Region.CHANNELS] * 8 // channel_slot_bits(core), 4),
        mean_depth=whole(words[Region.MEANS], 2),
    )


def _stream_depth(network, engine):
    """The least that holds the network's streams."""
    def holds(depth):
        try:
            stream_bases(network, replace(engine, stream_depth=depth))
        except EngineError:
            return False
        return True

    return bisect_left(range(engine.stream_depth), True, lo=2, key=holds)


def sized(image, engine, part):
    """The engine with memories as large as the network needs them on ``part``.

    Of its own depths only that of the stream counts: it must be enough. Raises EngineError.
    """
    if engine.has_stream:
        engine = replace(engine, stream_depth=_stream_depth(image.network, engine))
    used = defaultdict(int, used_words(compile_program(image, engine)))
    # Two words more that no map may have, on each side.
    spikes = used[Region.SPIKES] * 16 // (engine.simd * engine.lanes) + (4 if engine.stem else 2)
    shared = dict(
        spike_depth=1 << (spikes - 1).bit_length() if engine.stem else spikes,
        frame_depth=max(used[Region.FRAME], 2),
        layer_depth=max(used[Region.PROGRAM] // record_stride(engine), 2),
    )
    main = _depths(engine, engine.pe * engine.simd, used)
    stem = {}
    if engine.stem:
        of_stem = {region: used[region.of_stem] for region in _OWN}
        stem = _depths(engine.stem, 8 * engine.stem.pe, of_stem)
    engine = _with_depths(engine, shared, main, stem)
    if part.spram:
        # An SPRAM has so many words, whether they are used or not.
        if main["weight_depth"] > SPRAM_DEPTH:
            raise EngineError(
                f"its weights are {main['weight_depth']:,} words, an SPRAM has {SPRAM_DEPTH:,}"
            )
        engine = replace(engine, weight_depth=SPRAM_DEPTH)
    compile_program(image, engine)
    return engine


def shortage(part, takes, block_rams=OCCUPANCY):
    """What there is too little of for the cells that an engine ``takes``: a list of phrases.

    block_rams: the share of them that may be used; of the logic it is always OCCUPANCY.
    """
    lacks, shares = [], {"logic": OCCUPANCY, "bram": block_rams}
    for name, meaning in _MEANINGS.items():
        available, share = getattr(part, name), shares.get(name, 1)
        if takes[name] > share * available:
            limit = f", {share:.0%} of which may be used" if share < 1 else ""
            lacks.append(f"{takes[name]:,} {meaning} of {available:,}{limit}")
    return lacks


def _first_that_fits(image, part, foldings, block_rams):
    """The Choice of the first folding that fits, or None, and why not the nearest of the others."""
    reasons = []
    for engine, cycles in foldings:
        takes = estimate(part, _smallest(engine))
        lacks = shortage(part, takes, block_rams)
        # Those that lack nothing yet come nearest.
        far, reason = bool(lacks), f"it needs {' and '.join(lacks)}"
        if not lacks:
            try:
                engine = sized(image, engine, part)
            except EngineError as error:
                reason = str(error)
            else:
                takes = estimate(part, engine)
                lacks = shortage(part, takes, block_rams)
                if not lacks:
                    return Choice(engine, cycles, takes), None
                reason = f"it needs {' and '.join(lacks)}"
        reasons.append((far, takes["logic"], reason))
    return None, min(reasons)[-1] if reasons else None


def fit(image, board, clock_hz=None, fps=None):
    """The Choice for the network of ``image`` on ``board``: the fastest engine that fits.

    With ``fps``, the one of the fewest LUTs that computes so many frames a second. Engines that
    need more than OCCUPANCY of the block RAM are taken only if no other fits. Raises BuildError
    with what is missing, EngineError for a network that no engine holds, ClockError or BaudError.
    """
    part = PARTS[board.platform.device]
    frequency = float(board.clock_generator(clock_hz or board.clock_hz).frequency_hz)
    foldings = sorted(
        _foldings(image, _roomy(image, board.engine.deep)), key=lambda folding: folding[1]
    )
    wanted = foldings
    if fps is not None:
        wanted = [folding for folding in foldings if frequency / folding[1] >= fps]
        wanted.sort(key=lambda folding: estimate(part, _smallest(folding[0]))["logic"])
    for block_rams in (OCCUPANCY, 1):
        choice, reason = _first_that_fits(image, part, wanted, block_rams)
        if choice:
            return choice
    name, device = image.network.name, f"the {board.name}"
    if fps is not None:
        fastest = fit(image, board, clock_hz)
        raise BuildError(
            f"{name} does not reach {fps:g} frames/s on {device}: the fastest engine that fits"
            f" computes {frequency / fastest.cycles:.1f} at {frequency / 1e6:g} MHz"
        )
    raise BuildError(f"{name} does not fit {device}: {reason}")


def _rate(text):
    """Frames/s of the command line, for argparse."""
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is no number of frames/s")
    return value


def add_options(parser, engine="fit"):
    """Adds --engine, with that default, and --fps to a command line, for ``fitted``."""
    parser.add_argument(
        "--engine", choices=("fit", "board"), default=engine,
        help="fit: the fastest for the network that fits the part, or with --fps the smallest that"
        f" will do; board: the board's own, for all networks that fit it (default: {engine})",
    )
    parser.add_argument(
        "--fps", type=_rate, metavar="N", help="frames/s that the engine is to compute, at least",
    )


def fitted(board, image, engine, clock_hz=None, fps=None):
    """The board as it is, if ``engine`` is "board", or with what ``fit`` finds for the network.

    Raises what ``fit`` raises.
    """
    if engine == "fit":
        return replace(board, engine=fit(image, board, clock_hz, fps).engine, script=ANY_ENGINE)
    if fps is not None:
        raise BuildError("--fps chooses an engine: not with --engine board")
    return board

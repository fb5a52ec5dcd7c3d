"""Random engines, of the kinds that a part of its family may hold: the same ones each time."""

import random
from dataclasses import dataclass, replace

from hw.boards import BOARDS
from hw.estimate import PARTS, hard_blocks
from hw.memory import SPRAM_DEPTH
from sw.engine import Engine, EngineError

__all__ = ["KINDS", "Kind", "draw"]

@dataclass(frozen=True)
class Kind:
    """A kind of parts. label: what they are called. board: that engines are synthesised for.

    fitted: engines that estimates are fitted to. most: MACs a cycle of the largest. is_large: parts
    with room for streams, stem cores and more than ``most``, now and then.
    """

    label: str
    board: str
    fitted: int
    most: int
    is_large: bool = False

    @property
    def part(self):
        return PARTS[BOARDS[self.board].platform.device]


#: By the name that ``hw.estimate.PARTS`` has for them.
KINDS = {
    "up5k": Kind("iCE40 UP5K", "icebreaker", fitted=36, most=256),
    "hx8k": Kind("iCE40 HX8K", "hx8k-evn", fitted=30, most=256),
    "gw1n": Kind("Gowin GW1N", "tang-nano-9k", fitted=30, most=512),
    "ecp5": Kind("ECP5", "ulx3s-85f", fitted=48, most=2048, is_large=True),
}


def _power(rng, low, high):
    return 1 << rng.randint(low.bit_length() - 1, high.bit_length() - 1)


def _depth(rng, low, high, multiple=1):
    """Between two powers of two, small ones as likely as large ones."""
    depth = round(2 ** rng.uniform(low, high))
    return multiple * max(-(-depth // multiple), 2)


def _own_depths(rng, core, largest_mean):
    return dict(
        channel_depth=_depth(rng, 5, 11, 2 * core["units"]),
        mean_depth=_depth(rng, 4, largest_mean, core["units"]),
    )


def _any(rng, kind):
    """An engine as any roll of the dice has it; EngineError if there is none like it."""
    large = kind.is_large
    folding = dict(
        lanes=rng.choice((1, 2, 4, 4, 4, 8)), pixels=rng.choice((1, 1, 1, 1, 2, 4)),
        passes=rng.choice((1, 1, 1, 1, 2, 4) if large else (1,) * 9 + (2,)),
        pe=_power(rng, 4, 64), simd=_power(rng, 8, 128), units=_power(rng, 1, 8),
    )
    words = folding["pe"] * folding["simd"]
    streamed = large and rng.random() < 0.2
    weights = SPRAM_DEPTH if kind.part.spram else min(_depth(rng, 5, 12), (1 << 20) // words)
    engine = Engine(
        **folding, **_own_depths(rng, folding, 13 if large else 11), weight_depth=weights,
        spike_depth=_depth(rng, 5, 11), frame_depth=_depth(rng, 5, 10.5),
        layer_depth=rng.choice((4, 8, 12, 16, 24, 32)),
        current_width=rng.randint(16 if streamed else 10, 18),
        leak_shifts=rng.choice(((1,), (1,), (1,), (2,), (0,), (0, 1, 2, 3))),
        stream_depth=_depth(rng, 6, 12) if streamed else 0, deep=large and rng.random() < 0.7,
    )
    if not large or streamed or engine.pixels > 1 or rng.random() < 0.5:
        return engine
    stem = dict(pe=_power(rng, 8, 64), units=_power(rng, 1, 4), weight_depth=_depth(rng, 5, 9))
    engine = replace(engine, spike_depth=1 << (engine.spike_depth - 1).bit_length())
    return replace(engine, stem=engine.stem_core(**stem, **_own_depths(rng, stem, 11)))


def _is_likely(rng, engine, kind):
    """Whether it would fit a part of its kind, or nearly: large ones take long."""
    part, largest = kind.part, kind.most
    if kind.is_large and rng.random() >= 0.92:
        largest *= 4
    blocks = hard_blocks(part, engine)
    return engine.macs_per_cycle <= largest and engine.units * engine.lanes <= 32 and all(
        blocks[name] <= getattr(part, name) for name in ("dsp", "spram")
    )


def draw(kind, number):
    """Engine ``number`` of those for a kind of parts, always the same."""
    rng = random.Random(f"{kind} {number}")
    while True:
        try:
            engine = _any(rng, KINDS[kind])
        except EngineError:
            continue
        if _is_likely(rng, engine, KINDS[kind]):
            return engine

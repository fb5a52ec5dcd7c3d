"""How many block RAMs an engine's memories become: Yosys' own choice, computed beforehand.

Yosys (pass memory_libmap) tries every width of every kind of RAM that a family has, and takes what
it reckons cheapest: the blocks, and half a point for each bit of the multiplexers between them.
"""

from dataclasses import dataclass, replace

from hw.contents import HOST
from hw.memory import bank_bits
from hw.spikes import BANK, parts
from sw.formats import (
    ACCUMULATOR_BITS,
    GAIN_FRACTION,
    INDEX_LIMIT,
    SLOPE_BITS,
    SLOPE_FRACTION,
    STREAM_BITS,
    TABLE_BITS,
    THRESHOLD_BITS,
)
from sw.packing import channel_slot_bits
from sw.record import record_stride

__all__ = ["RAMS", "Memory", "Ram", "block_rams", "lut_rams", "memories", "multiplexers", "sprams"]

#: Of a memory in registers, for each bit; Yosys' default.
REGISTER_COST = 1


@dataclass(frozen=True)
class Ram:
    """A kind of RAM as the files brams.txt and lutrams.txt of Yosys describe it.

    widths: of a port; with width number i it has 2**(address_bits - i) words. byte: bits of an
    enable, 0 if there is one for all. cost: of one. block: whether it is block RAM.
    """

    address_bits: int
    widths: tuple
    byte: int
    cost: int
    block: bool = True


_LUT_RAM = Ram(address_bits=4, widths=(4,), byte=0, cost=4, block=False)
_BLOCK_18K = Ram(address_bits=14, widths=(1, 2, 4, 9, 18, 36), byte=9, cost=128)

#: By family of nextpnr.
RAMS = {
    "ice40": (Ram(address_bits=11, widths=(2, 4, 8, 16), byte=1, cost=64),),
    "ecp5": (_BLOCK_18K, _LUT_RAM),
    "himbaechel-gowin": (_BLOCK_18K, _LUT_RAM),
}


@dataclass(frozen=True)
class Memory:
    """``depth`` words of ``width`` bits, of which each ``granule`` can be written alone.

    used: the bits that anything reads, as (first, behind the last); None: all.
    """

    name: str
    width: int
    depth: int
    granule: int
    used: tuple | None = None

    @property
    def is_weights(self):
        return self.name.endswith("weights")

    @property
    def enables(self):
        return self.width // self.granule

    def used_bits(self):
        return [bit for span in self.used for bit in range(*span)]


def _host(name, width, depth):
    return Memory(name, width, depth, min(bank_bits(width), width))


def _channels_used(engine, reads_out):
    """Of the word of ``units`` channels: a bias, that of a logit is longer, and what is behind."""
    slot, bias, limit = channel_slot_bits(engine), engine.current_width, THRESHOLD_BITS
    if engine.has_stream:
        bias, limit = SLOPE_FRACTION + bias, SLOPE_BITS
    if reads_out:
        bias = max(bias, ACCUMULATOR_BITS)
    return tuple(
        (2 * slot * unit + first, 2 * slot * unit + first + bits)
        for unit in range(engine.units) for first, bits in ((0, bias), (slot, limit))
    )


def _core(engine, prefix, weight_bits):
    yield _host(f"{prefix}weights", weight_bits, engine.weight_depth)
    units = engine.units
    channels = _host(
        f"{prefix}channels", 2 * channel_slot_bits(engine) * units, engine.channel_depth // units
    )
    yield replace(channels, used=_channels_used(engine, reads_out=not prefix))
    if engine.exact_gain:
        yield _host(f"{prefix}means", TABLE_BITS * units, engine.mean_depth // units)
    yield _host(f"{prefix}program", 16, engine.layer_depth * record_stride(engine))


def memories(engine):
    """Every Memory of an engine."""
    width = engine.simd * engine.lanes
    yield from (
        Memory("spikes", width, size, BANK) for size in parts(engine.spike_depth)
    )
    yield _host("frame", 16, engine.frame_depth)
    yield from _core(engine, "", engine.pe * engine.simd)
    if engine.exact_gain:
        yield _host("sigmoid", GAIN_FRACTION, 2 * INDEX_LIMIT)
    if engine.stem:
        yield from _core(engine.stem, "stem ", 8 * engine.stem.pe)
    if engine.has_stream:
        bits = engine.units * engine.lanes * STREAM_BITS
        yield Memory("stream", bits, engine.stream_depth, bits)


@dataclass(frozen=True)
class _Shape:
    """A memory in a kind of RAM of which each has ``width`` bits: what it costs, what it takes.

    padded: bits of a word, with those that fill up its granules. deep: blocks one behind the other.
    """

    ram: Ram
    memory: Memory
    width: int
    deep: int
    byte: int

    @property
    def padded(self):
        return self.memory.enables * self._granule

    @property
    def _granule(self):
        return -(-self.memory.granule // self.byte) * self.byte

    @property
    def cost(self):
        choice = (self.deep - 1) * self.memory.width
        if self.deep > 1:
            choice += self.deep * self.memory.enables
        # Two points for a port of its own to read from.
        return self.ram.cost * self._every_block + choice / 2 + 2

    @property
    def _every_block(self):
        return -(-self.deep * self.padded // self.width)

    @property
    def blocks(self):
        """Those with a bit that is read: others are optimised away."""
        if self.memory.used is None:
            return self._every_block
        granule = self.memory.granule
        places = [bit // granule * self._granule + bit % granule for bit in self.memory.used_bits()]
        return len({
            (row * self.padded + place) // self.width for row in range(self.deep)
            for place in places
        })


def _shapes(ram, memory):
    for number, width in enumerate(ram.widths):
        deep = -(-memory.depth // (1 << (ram.address_bits - number)))
        yield _Shape(ram, memory, width, deep, min(ram.byte or width, width))


def _cheapest(shapes):
    # Yosys keeps the best cost as a whole number.
    best = None
    for shape in shapes:
        if best is None or shape.cost < int(best.cost):
            best = shape
    return best


def _choice(family, memory):
    """The _Shape that Yosys takes, or None for registers."""
    cost, choice = memory.width * memory.depth * REGISTER_COST, None
    for ram in RAMS[family]:
        shape = _cheapest(_shapes(ram, memory))
        if shape.cost < cost:
            cost, choice = shape.cost, shape
    return choice


def block_rams(family, memory):
    """Block RAMs that a memory becomes."""
    shape = _choice(family, memory)
    return shape.blocks if shape and shape.ram.block else 0


def lut_rams(family, memory):
    """RAMs in LUTs, of 16 words of 4 bits, that a memory becomes."""
    shape = _choice(family, memory)
    return shape.blocks if shape and not shape.ram.block else 0


def multiplexers(family, memory):
    """Bits that are chosen again for each of a memory's blocks behind the first."""
    shape = _choice(family, memory)
    return (shape.deep - 1) * memory.width if shape else 0


def sprams(memory):
    """SPRAMs of an iCE40 UP5K that a memory of weights becomes: one for each 16 bits."""
    return -(-memory.width // HOST)

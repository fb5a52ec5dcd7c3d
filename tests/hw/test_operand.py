"""Element addresses split into words, and the values of the 8-bit layers."""

import random

import numpy as np
import pytest

from hw.operand import Operand
from sw.engine import Engine
from sw.record import Kind
from tests.hw.support import DEPTHS, LONG, SMALL, WIDE, difference, shape, simulate

ENGINES = [SMALL, WIDE, LONG, Engine(pe=4, simd=32, lanes=1, **DEPTHS)]
ROWS = 6


def random_words(engine):
    rng = random.Random(3)
    bits = engine.simd * engine.lanes
    return [(1 << bits) - 1, 0, *(rng.getrandbits(bits) for _ in range(ROWS - 2))]


def elements_of(engine, kind):
    per_word = {
        Kind.STEM: engine.simd * engine.lanes // 8, Kind.READOUT: engine.simd, Kind.CONV: 1,
    }[kind]
    elements = list(range(ROWS * per_word))
    random.Random(4).shuffle(elements)
    return elements


def run(dut, kind, elements, words):
    """(word address, value one cycle later) of each element, one a cycle."""
    addresses, values = [], []

    async def testbench(ctx):
        ctx.set(dut.layer.kind, kind)
        for element in [*elements, 0]:
            ctx.set(dut.element, element)
            *_, address, value = await ctx.tick().sample(dut.word_address, dut.value)
            addresses.append(address)
            values.append(value)
            ctx.set(dut.word, words[address])

    simulate(dut, testbench)
    return list(zip(addresses, values[dut.latency :], strict=False))


@pytest.mark.parametrize("engine", ENGINES, ids=shape)
def test_stem_elements_are_the_bytes_of_the_words(engine):
    dut, words = Operand(engine), random_words(engine)
    elements = elements_of(engine, Kind.STEM)
    pixels = b"".join(word.to_bytes(dut.bytes, "little") for word in words)
    expected = [(element // dut.bytes, pixels[element]) for element in elements]
    assert difference(expected, run(dut, Kind.STEM, elements, words)) is None
    assert [dut.model(Kind.STEM, e, words) for e in elements] == [value for _, value in expected]


@pytest.mark.parametrize("engine", ENGINES, ids=shape)
def test_readout_elements_are_channels_and_their_spikes_counted(engine):
    dut, words = Operand(engine), random_words(engine)
    elements = elements_of(engine, Kind.READOUT)
    width = engine.simd * engine.lanes // 8
    raw = np.frombuffer(b"".join(word.to_bytes(width, "little") for word in words), np.uint8)
    counts = np.unpackbits(raw, bitorder="little").reshape(-1, engine.lanes).sum(1)
    expected = [(element // engine.simd, int(counts[element])) for element in elements]
    assert difference(expected, run(dut, Kind.READOUT, elements, words)) is None
    assert [dut.model(Kind.READOUT, e, words) for e in elements] == [v for _, v in expected]
    assert {0, engine.lanes} <= {value for _, value in expected}


@pytest.mark.parametrize("engine", ENGINES, ids=shape)
def test_convolution_elements_are_words(engine):
    dut, words = Operand(engine), random_words(engine)
    elements = elements_of(engine, Kind.CONV)
    assert [address for address, _ in run(dut, Kind.CONV, elements, words)] == elements


def test_a_changed_word_is_noticed():
    dut, words = Operand(SMALL), random_words(SMALL)
    elements = elements_of(SMALL, Kind.STEM)
    got = run(dut, Kind.STEM, elements, words)
    words[3] ^= 1 << 12
    expected = [(e // dut.bytes, dut.model(Kind.STEM, e, words)) for e in elements]
    assert difference(expected, got).startswith(f"entry {elements.index(3 * dut.bytes + 1)}")

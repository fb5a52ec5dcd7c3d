"""XNOR-popcount against its model, a new pair of words every cycle."""

import random

import pytest

from hw.popcount import Popcount
from tests.hw.support import difference, play


def operands(simd, count=60):
    rng = random.Random(simd)
    ones = (1 << simd) - 1
    extremes = [(0, 0), (ones, ones), (0, ones), (ones, 0), (1, 0), (ones, 1), (1 << simd - 1, 0)]
    return extremes + [(rng.getrandbits(simd), rng.getrandbits(simd)) for _ in range(count)]


def counts(dut, pairs):
    stimulus = [dict(spikes=spikes, weights=weights) for spikes, weights in pairs]
    rows = play(dut, stimulus + [{}] * dut.latency, ["count"])
    return [count for (count,) in rows[dut.latency :]]


@pytest.mark.parametrize("deep, latency", [(False, 1), (True, 3)], ids=["flat", "deep"])
@pytest.mark.parametrize("simd", [8, 16, 32, 64])
def test_equals_its_model_at_its_latency(simd, deep, latency):
    dut, pairs = Popcount(simd, deep), operands(simd)
    assert dut.latency == latency
    expected = [dut.model(*pair) for pair in pairs]
    assert difference(expected, counts(dut, pairs)) is None
    assert expected[:4] == [simd, simd, 0, 0]
    for count, (spikes, weights) in zip(expected, pairs, strict=True):
        bits = [(spikes >> i & 1, weights >> i & 1) for i in range(simd)]
        total = sum(spike * (1 if weight else -1) for spike, weight in bits)
        assert count - sum(not weight for _, weight in bits) == total


@pytest.mark.parametrize("deep", [False, True], ids=["flat", "deep"])
def test_a_flipped_weight_bit_is_noticed(deep):
    dut, pairs = Popcount(16, deep), operands(16)
    expected = [dut.model(*pair) for pair in pairs]
    spikes, weights = pairs[20]
    pairs[20] = spikes, weights ^ 1 << 11
    assert difference(expected, counts(dut, pairs)).startswith("entry 20")

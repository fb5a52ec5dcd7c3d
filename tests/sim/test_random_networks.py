"""Sixteen random networks on four engines, and that the comparison of such would see an error."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from sw.layers import AveragedReadout, Conv, Network, Readout, Shape, Stem
from tests.sim.random_networks import Case, cases, run


@settings(
    max_examples=16, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(cases(("two cores", "two strips", "four passes", "shortcuts, two units, four passes")))
def test_verilog_equals_golden(case):
    assert run(case)["differences"] == []


@pytest.mark.parametrize("T", [6, 16])
def test_exact_gains_in_several_passes(T):
    network = Network(
        "passes", Shape(2, 8, 9), [Stem(9), Conv(7, pool=2), Conv(10), AveragedReadout(3)], T=T
    )
    assert run(Case("four passes", network, "exact", 5))["differences"] == []


def test_one_wrong_bias_is_noticed():
    network = Network("wrong", Shape(1, 6, 6), [Stem(9), Conv(7, kernel=5), Readout(3)], T=3)
    case = Case("two cores", network, "exact", 5)
    layers = list(case.image.layers)
    layers[2] = replace(layers[2], bias=layers[2].bias + 1)
    found = run(case, golden=replace(case.image, layers=tuple(layers)))["differences"]
    assert found
    assert all("readout2" in line for line in found if "in one go" not in line)

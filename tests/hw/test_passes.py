"""The number of a group's pass against the model and against plain counting."""

import pytest

from hw.passes import Passes
from tests.hw.support import FLOWS, difference, play, with_and_without_gaps, with_gaps

OUTPUTS = ["number", "first", "last"]

#: Groups, passes, first pass.
SHAPES = [
    (groups, passes, first)
    for groups, passes in ((4, 2), (4, 4), (1, 4), (2, 8), (8, 16), (1, 2))
    for first in sorted({0, 1, passes // 2, passes - 1})
]


def run(dut, first_pass, groups, willing, before=(), clear=1):
    """(what the units see in each cycle after the clear, and whether a group comes in it)."""
    constant = dict(valid=1, first_pass=first_pass, clear=0)
    lead = [{**constant, "first_pass": first} for first in before]
    # A group that comes with the clear does not count.
    lead += [{**constant, "valid": bool(before), "clear": clear}]
    stimulus = with_gaps([constant] * groups, willing, after=2)
    rows = play(dut, [*lead, *stimulus], OUTPUTS)[len(lead) :]
    return rows, [values["valid"] for values in stimulus]


def expected(dut, first_pass, valids):
    """Outputs stand until their group comes, and change a cycle later."""
    numbers, came = dut.model(first_pass, sum(valids) + 1), 0
    rows = []
    for valid in valids:
        number = numbers[came]
        rows.append((number, int(number == first_pass), int(number == dut.passes - 1)))
        came += valid
    return rows


@with_and_without_gaps
@pytest.mark.parametrize("groups, passes, first_pass", SHAPES)
def test_equals_its_model(groups, passes, first_pass, willing):
    dut, count = Passes(groups, passes), groups * (3 * (passes - first_pass) + 1) + 1
    assert dut.latency == 0
    rows, valids = run(dut, first_pass, count, willing)
    assert difference(expected(dut, first_pass, valids), rows) is None
    got = [row for row, valid in zip(rows, valids, strict=True) if valid]
    plain = [
        (number, int(number == first_pass), int(number == passes - 1))
        for _tile in range(5) for number in range(first_pass, passes) for _ in range(groups)
    ]
    assert difference(plain[:count], got) is None


@pytest.mark.parametrize("first_pass, numbers", [
    (0, [0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 1]), (1, [1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3]),
    (2, [2, 2, 3, 3, 2, 2, 3, 3, 2, 2, 3]), (3, [3] * 11),
])
def test_numbers_written_out(first_pass, numbers):
    dut = Passes(2, 4)
    assert dut.model(first_pass, 11) == numbers
    rows, _ = run(dut, first_pass, 11, FLOWS)
    assert [number for number, _, _ in rows[:11]] == numbers


@with_and_without_gaps
@pytest.mark.parametrize("before", [[0] * 3, [0] * 7, [2] * 4, [3] * 5])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("first_pass", [0, 1, 3])
def test_clear_starts_with_the_first_pass(first_pass, groups, before, willing):
    """In the middle of a layer that had another first pass, or the same."""
    dut = Passes(groups, 4)
    rows, valids = run(dut, first_pass, 20, willing, before)
    assert difference(expected(dut, first_pass, valids), rows) is None


def test_a_missing_clear_is_noticed():
    dut = Passes(4, 4)
    rows, valids = run(dut, 1, 20, FLOWS, [0] * 2, clear=0)
    assert difference(expected(dut, 1, valids), rows).startswith("entry 0")


def test_a_group_more_is_noticed():
    dut = Passes(4, 4)
    rows, valids = run(dut, 0, 20, FLOWS)
    assert difference(expected(dut, 0, [1, *valids[:-1]]), rows) is None
    assert difference(expected(dut, 0, [0, *valids[:-1]]), rows).startswith("entry 4")

"""Position classes against a direct look at which taps reach an output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw.positions import Axis


def reached(size, kernel, stride, padding, position):
    """Taps that multiply ``position`` somewhere, found by walking all outputs."""
    outputs = (size + 2 * padding - kernel) // stride + 1
    return {
        tap for output in range(outputs) for tap in range(kernel)
        if output * stride - padding + tap == position
    }


@st.composite
def convolutions(draw):
    kernel = draw(st.sampled_from((1, 3, 5)))
    padding = draw(st.integers(0, kernel // 2))
    size = draw(st.integers(max(1, kernel - 2 * padding), 40))
    return size, kernel, draw(st.sampled_from((1, 2))), padding


@given(convolutions())
def test_every_position_has_the_taps_of_its_class(convolution):
    axis = Axis.of(*convolution)
    for position in range(axis.size):
        assert set(axis.taps[axis.class_of(position)]) == reached(*convolution, position)


@given(convolutions())
def test_next_walks_the_classes_as_the_hardware_does(convolution):
    axis = Axis.of(*convolution)
    current = axis.class_of(0)
    for position in range(axis.size - 1):
        current = axis.next(position, current)
        assert current == axis.class_of(position + 1)


@pytest.mark.parametrize(
    "convolution, classes",
    [((28, 3, 1, 1), 3), ((14, 3, 2, 1), 3), ((13, 3, 2, 1), 2), ((9, 1, 1, 0), 1),
     ((16, 5, 1, 2), 5), ((9, 1, 2, 0), 2), ((1, 3, 1, 1), 1)],
)
def test_classes_are_few(convolution, classes):
    assert Axis.of(*convolution).classes == classes


def test_a_wrong_class_is_noticed():
    """The comparison above can fail: the classes of another stride do not pass it."""
    axis = Axis.of(14, 3, 1, 1)
    assert any(
        set(axis.taps[axis.class_of(p)]) != reached(14, 3, 2, 1, p) for p in range(axis.size)
    )

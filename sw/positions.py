"""Position classes: which kernel taps of the next layer a spike reaches, per axis.

The sum of a convolution's outputs is linear in its input spikes: a spike at (y, x) adds the weights
of those taps that place an output inside the map. Along one axis that set of taps depends only on
whether the spike is near the first border, near the last, or in between, where it repeats with the
stride. A handful of classes an axis (three for a 3 x 3 kernel with padding, five without) therefore
describe every position.
"""

from dataclasses import dataclass

__all__ = ["Axis"]


@dataclass(frozen=True)
class Axis:
    """Classes of the ``size`` positions along one axis, for a convolution over it.

    Positions below ``low`` and from ``high`` on have a class each; those between take
    ``period`` classes in turn. Classes are numbered low, middle, high.
    """

    size: int
    low: int
    period: int
    high: int
    taps: tuple

    @classmethod
    def of(cls, size, kernel, stride, padding):
        """The fewest classes for an input axis of ``size`` under this convolution."""
        outputs = (size + 2 * padding - kernel) // stride + 1

        def reached(position):
            return tuple(
                tap for tap in range(kernel)
                if (position + padding - tap) % stride == 0
                and 0 <= (position + padding - tap) // stride < outputs
            )

        every = [reached(position) for position in range(size)]
        for edge in range(size + 1):
            for low in range(edge, -1, -1):
                high = size - (edge - low)
                if all(every[p] == every[p - stride] for p in range(low + stride, high)):
                    middle = [every[min(low + i, size - 1)] for i in range(stride)]
                    taps = (*every[:low], *middle, *every[high:])
                    return cls(size, low, stride, high, taps)
        raise AssertionError("unreachable: every position can have a class of its own")

    @property
    def classes(self):
        return len(self.taps)

    def class_of(self, position):
        if position < self.low:
            return position
        if position >= self.high:
            return self.low + self.period + position - self.high
        return self.low + (position - self.low) % self.period

    def next(self, position, current):
        """Class of ``position`` + 1 from that of ``position``: the rule the hardware steps by."""
        if position + 1 == self.high:
            return self.low + self.period
        if self.low < position + 1 < self.high and current == self.low + self.period - 1:
            return self.low
        return current + 1

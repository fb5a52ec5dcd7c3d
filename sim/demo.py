"""The whole way in one command: train, export, golden model, simulation, bitstream, one page.

The network learns the 8 x 8 digits that ship with scikit-learn. No physical board is involved: the
accelerator's Verilog is simulated, and the clock frequency is what place-and-route promises.
"""

import argparse
import json
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from hw.boards import BOARDS
from hw.build import BuildError, build
from sim import page
from sim.run import make_plan, simulate
from sim.simulators import SIMULATORS, SimulationError
from sw import data, export, image
from sw import train as trainer
from sw.checkpoint import CheckpointError, load_model
from sw.engine import ENGINES, EngineError
from sw.files import replace_file
from sw.golden import IntegerNetwork, evaluate

__all__ = ["demo", "main"]

BOARD = "icebreaker"

#: Images whose spikes the page shows.
EXAMPLES = 6

EPILOG = """examples:
  python -m sim.demo                 the whole way: allow 20 minutes on two cores
  python -m sim.demo -n 8 --json     fewer simulated images, a summary for machines on stdout

The folder gets digits.bsnn (the network image), run/ (the training), index.html and summary.json;
the bitstream goes to build/icebreaker."""


@contextmanager
def _stage(number, verb, rest, seconds):
    """Announce a stage on stderr and note how long it took in the dict ``seconds``."""
    print(f"[{number}/5] {verb} {rest}", file=sys.stderr, flush=True)
    start = time.monotonic()
    yield
    seconds[verb] = round(time.monotonic() - start, 1)


def _train(folder):
    """Train with the trainer's defaults. Returns the checkpoint's path and the training log."""
    # The trainer keeps finished runs; this one is the demo's own.
    shutil.rmtree(folder, ignore_errors=True)
    result = trainer.train(trainer.parse(["--data", "digits", "--out", str(folder)]))
    log = Path(result["log"]).read_text().splitlines()
    return result["checkpoint"], [json.loads(line) for line in log]


def _firing_rates(golden, images):
    """Share of spikes of every layer but the last at every time step."""
    _, boundaries = golden(images, record=True)
    return [b.spikes.flatten(1).float().mean(1).tolist() for b in boundaries] + [None]


def _examples(plan, labels, logits):
    """The first simulated image of each of the first classes, to look at."""
    chosen = sorted({int(label): n for n, label in reversed(list(enumerate(labels)))}.items())
    return [
        page.Example(
            plan.frames[n], label, [spikes[n] for spikes in plan.boundaries[:-1]],
            np.array(logits[n]),
        )
        for label, n in chosen[:EXAMPLES]
    ]


def demo(folder=Path("build/demo"), images=50, simulator="verilator"):
    """Run every stage. Returns the summary (JSON-able) and the Examples for the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model_path, seconds, engine = folder / "digits.bsnn", {}, ENGINES[BOARD]

    with _stage(1, "train", "the network on 1,437 images of digits", seconds):
        checkpoint, history = _train(folder / "run")

    with _stage(2, "export", "it to integers and compare them with the floats", seconds):
        model, network, info = load_model(checkpoint)
        image.save(export.export(model, network, export.provenance(info)), model_path)
        network_image = image.load(model_path)
        x, y = data.load("digits", "test")
        images = min(images, len(y))
        accuracy = evaluate(network_image, x, y)
        golden = IntegerNetwork(network_image)
        rates = _firing_rates(golden, x)

    with _stage(3, "simulate", f"{images} images, after compiling the accelerator", seconds):
        plan = make_plan(network_image, golden, x[:images].numpy(), engine)
        result = simulate(plan, simulator)
        guesses = np.argmax(np.array(result["logits"]), axis=1)
        rtl_accuracy = float((guesses == y[:images].numpy()).mean())

    with _stage(4, "build", f"the bitstream for {BOARD}", seconds):
        report = build(
            BOARDS[BOARD], network_image,
            command=f"make bitstream BOARD={BOARD} MODEL={model_path} ENGINE=board",
        )

    differences = list(result["differences"])
    if report["cycles_per_frame"] != result["cycles_per_frame"]:
        differences.append(
            f"the bitstream's report says {report['cycles_per_frame']} cycles a frame,"
            f" the simulation {result['cycles_per_frame']}"
        )
    summary = {
        "network": network.name, "T": network.T, "model": str(model_path),
        "checksum": network_image.checksum, "checkpoint": checkpoint,
        "images": len(y), "simulated_images": result["frames"], "simulator": simulator,
        **accuracy, "rtl_accuracy": rtl_accuracy,
        "boundaries": result["frames"] * len(plan.boundaries), "differences": differences,
        "cycles_per_frame": result["cycles_per_frame"], "cycle_model": plan.frame_cycles,
        "layers": [
            {"name": network.layer_name(i), "cycles": cycles, "firing_rates": rates[i]}
            for i, cycles in enumerate(plan.cycles)
        ],
        "history": history, "bitstream": report, "seconds": seconds,
        "commands": [
            f"python sw/train.py --data digits --out {folder / 'run'}",
            f"python sw/export.py {checkpoint} -o {model_path}",
            f"python -m sw.golden --model {model_path} --data digits",
            f"make sim MODEL={model_path} N={images} SIM={simulator}",
            f"make bitstream BOARD={BOARD} MODEL={model_path} ENGINE=board",
        ],
        "physical_board": False,
    }
    return summary, _examples(plan, y[:images].tolist(), result["logits"])


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sim.demo", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", metavar="DIR", default="build/demo", help="where to (default: build/demo)")
    add("-n", "--images", type=int, default=50, help="test images to simulate (default: 50)")
    add("--sim", choices=SIMULATORS, default="verilator", help="simulator (default: verilator)")
    add("--json", action="store_true", help="print the summary as one line of JSON on stdout")
    return parser


def main(argv=None):
    """Command line. Returns the exit status: 0 equal, 1 different, 2 could not run."""
    arguments = _parser().parse_args(argv)
    torch.set_num_threads(min(torch.get_num_threads(), 2))
    try:
        if arguments.images < 1:
            raise SimulationError(f"--images must be at least 1, got {arguments.images}")
        summary, examples = demo(arguments.out, arguments.images, arguments.sim)
        print("[5/5] write the page", file=sys.stderr)
        written = Path(arguments.out) / "index.html"
        replace_file(written, page.render(summary, examples))
        replace_file(Path(arguments.out) / "summary.json", json.dumps(summary, indent=1))
    except (
        BuildError, CheckpointError, EngineError, SimulationError, export.ExportError,
        image.ImageError, data.DataError, trainer.TrainingError, OSError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        return 130
    if arguments.json:
        print(json.dumps(summary))
    else:
        print(f"\n{page.table(summary)}\n\n{page.NO_BOARD}\nPage: {written}")
    for line in summary["differences"][:10]:
        print(f"differs: {line}", file=sys.stderr)
    return 1 if summary["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""What the command lines of the simulations have in common."""

import json
import sys
from pathlib import Path

import numpy as np

from hw.tools import BuildError
from sim.simulators import SimulationError
from sw import data, image
from sw.bounds import ExportError
from sw.engine import ENGINES, Engine, EngineError
from sw.frames import NOISE

__all__ = ["accuracy_of", "add_arguments", "add_engine", "engine_of", "finish"]


def add_engine(parser):
    """Adds --engine to a command line, for ``engine_of``."""
    parser.add_argument(
        "--engine", default="icebreaker", metavar="BOARD|REPORT",
        help="that of a board, or the one of which a build's report.json tells (default:"
        " icebreaker)",
    )


def engine_of(name):
    """The Engine of a board of that name, or of the report of a build. Raises EngineError."""
    if name in ENGINES:
        return ENGINES[name]
    try:
        return Engine.from_dict(json.loads(Path(name).read_text())["engine"])
    except OSError as error:
        raise EngineError(
            f"{name}: neither a board ({', '.join(ENGINES)}) nor the report of a build"
        ) from error
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EngineError(f"{name}: no report of a build") from error


def add_arguments(parser, images):
    """Model, frames and engine; ``images`` of a data set by default."""
    add = parser.add_argument
    add("--model", required=True, metavar="MODEL.bsnn", help="network image to load")
    add("-n", "--images", type=int, default=images, help=f"test images to run (default: {images})")
    add_engine(parser)
    add("--data", choices=(*data.DATASETS, NOISE), help="data set (default: the model's own)")
    add("--data-root", metavar="DIR", help="where the data set lies")
    add("--json", action="store_true", help="print the result as one line of JSON")


def accuracy_of(logits, labels):
    """Share of frames whose largest logit is their label; None without labels."""
    if labels is None:
        return None
    return float((np.argmax(np.array(logits), axis=1) == labels.numpy()[: len(logits)]).mean())


def finish(run, arguments, summary):
    """Prints what ``run(arguments)`` finds, as ``summary(result, verdict)`` puts it.

    Returns the exit status: 0 equal, 1 different, 2 could not run, 130 after Ctrl-C.
    """
    try:
        result = run(arguments)
    except (
        SimulationError, BuildError, EngineError, ExportError, image.ImageError, data.DataError
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    if arguments.json:
        print(json.dumps(result))
    else:
        for line in result["differences"][:10]:
            print(f"differs: {line}")
        verdict = "equal to" if not result["differences"] else "DIFFERENT from"
        print(summary(result, verdict))
    return 1 if result["differences"] else 0

"""Networks to and from NIR files (neuroir.org), the common format of neuromorphic tools.

A NIR file becomes a checkpoint, which sw/export.py turns into a network image like any other. A
network of snnTorch or SpikingJelly is best handed over in Python, with ``sw.exchange.from_torch``:
NIR does not say whether a neuron resets to zero or by subtraction.
"""

import argparse
import json
import sys
from io import BytesIO
from pathlib import Path

import nir

from sw import data
from sw.checkpoint import CheckpointError, load_model, save_checkpoint
from sw.exchange.from_nir import parts_of
from sw.exchange.parts import ExchangeError, build
from sw.exchange.to_nir import DT, to_nir
from sw.export import ExportError, calibrate, load_calibration
from sw.files import replace_file
from sw.layers import LayerError, Shape

__all__ = ["main"]

EPILOG = """examples:
  python -m sw.exchange export runs/x/checkpoint.safetensors -o x.nir --gain frozen
  python -m sw.exchange import x.nir -o x.safetensors --T 4
  python sw/export.py x.safetensors -o x.bsnn"""


def _export(args):
    model, network, info = load_model(args.checkpoint)
    gains = None
    if args.gain == "frozen" and network.uses_agmm:
        images = load_calibration(args.checkpoint, network, info, args.data_root)
        gains = calibrate(model, images)
    graph, content = to_nir(model, network, gains), BytesIO()
    nir.write(content, graph)
    path = args.output or Path(args.checkpoint).with_suffix(".nir")
    replace_file(path, content.getvalue())
    return {"nir": str(path), "network": network.name, "T": network.T, "nodes": len(graph.nodes)}


def _read(path):
    """The NIRGraph of a file. It is HDF5: reading one runs no code."""
    try:
        graph = nir.read(path, type_check=False)
    except FileNotFoundError as error:
        raise ExchangeError(f"{path}: no such file") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        line = f"{error}".strip().splitlines()
        raise ExchangeError(f"{path}: not a NIR file ({line[0] if line else 'damaged'})") from error
    if not isinstance(graph, nir.NIRGraph):
        raise ExchangeError(f"{path}: holds no graph")
    return graph


def _import(args):
    graph = _read(args.nir)
    kept = graph.metadata or {}
    parts, shape = parts_of(graph, args.dt or float(kept.get("dt", DT)))
    if len(shape) != 3:
        raise ExchangeError(f"{args.nir}: its input is {shape}, not channels, height and width")
    T = int(kept.get("T", 4)) if args.T is None else args.T
    model, network = build(parts, Shape(*shape), T, Path(args.nir).stem)
    path = args.output or Path(args.nir).with_suffix(".safetensors")
    save_checkpoint(path, model)
    return {"checkpoint": str(path), "network": network.name, "T": network.T,
            "layers": len(network.layers)}


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sw.exchange", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ways = parser.add_subparsers(required=True, metavar="export|import")
    out = ways.add_parser("export", help="a checkpoint as a NIR file")
    out.add_argument("checkpoint", metavar="CHECKPOINT", help="what python sw/train.py wrote")
    out.add_argument("-o", "--output", metavar="FILE.nir", help="default: next to the checkpoint")
    out.add_argument("--gain", choices=("exact", "frozen"), default="exact", help="frozen: AGMM's"
                     " gains by their means over 2,000 training images and the steps")
    out.add_argument("--data-root", metavar="DIR", help="folder of the dataset's files")
    out.set_defaults(work=_export)
    back = ways.add_parser("import", help="a NIR file as a checkpoint")
    back.add_argument("nir", metavar="FILE.nir")
    back.add_argument("-o", "--output", metavar="CHECKPOINT", help="default: next to the file")
    back.add_argument("--T", type=int, help="time steps, 1 to 16 (default: the file's, or 4)")
    back.add_argument("--dt", type=float, metavar="SECONDS", help="of a time step (default: the"
                      f" file's, or {DT:g} as in snnTorch and SpikingJelly)")
    back.set_defaults(work=_import)
    for way in (out, back):
        way.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


def main(argv=None):
    """Command line. Returns the exit status: 0, or 2 with one line on stderr."""
    args = _parser().parse_args(argv)
    try:
        result = args.work(args)
    except (
        CheckpointError, data.DataError, ExchangeError, ExportError, LayerError, OSError
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(result))
    else:
        first, *others = result.items()
        print(f"{first[1]}:", ", ".join(f"{name} {value}" for name, value in others))
    return 0


if __name__ == "__main__":
    sys.exit(main())

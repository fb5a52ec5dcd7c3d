"""Runs networks on a board, over its serial port."""

import argparse
import json
import sys
import time

from sw.bounds import ExportError
from sw.engine import EngineError, boards_of
from sw.frames import NOISE, FrameError, noise, read_picture
from sw.host.accelerator import Accelerator
from sw.host.link import TIMEOUT, LinkError
from sw.image import ImageError
from sw.image import load as load_image
from sw.protocol import ProtocolError

__all__ = ["main", "measure"]

EPILOG = """examples:
  python -m sw.host info                                  what the board's bitstream can do
  python -m sw.host load models/digits.bsnn
  python -m sw.host infer models/digits.bsnn seven.png --spikes
  python -m sw.host bench models/digits.bsnn -n 1000
  python -m sw.host selftest models/digits.bsnn -n 20 --data digits --port /dev/ttyUSB1

A network stays on the board until another one is loaded or the power goes; all commands load it if
it is not there. Exit status: 0, 1 if a selftest finds differences, 2 with one line on stderr."""


def _frames(network, arguments):
    if arguments.images < 1:
        raise FrameError(f"--images must be at least 1, got {arguments.images}")
    if arguments.data == NOISE:
        return noise(network, arguments.images)
    # Only data sets and the golden model need PyTorch, which takes seconds to load.
    from sw import data

    try:
        images, _ = data.load(arguments.data, "test", arguments.data_root, network.T)
    except data.DataError as error:
        raise FrameError(str(error)) from error
    return images[: arguments.images].numpy()


def measure(accelerator, frames):
    """How long the loaded network takes for frames: a dict of seconds for all of them.

    seconds: sent, run and read, one after the other. link_seconds: sent only. run_seconds: run and
    logits read only. frames_per_s: end to end. bound: ``link`` or ``compute``.
    """
    def seconds(work):
        start = time.perf_counter()
        for _ in work:
            pass
        return time.perf_counter() - start

    # Until now, the first frame may have had to wait for a session or for caches.
    accelerator.infer(frames[0])
    whole = seconds(accelerator.stream(frames))
    link = seconds(map(accelerator.write, frames))
    run = seconds(accelerator.run() for _ in frames)
    return {
        "frames": len(frames), "seconds": whole, "frames_per_s": len(frames) / whole,
        "link_seconds": link, "run_seconds": run, "link_share": link / (link + run),
        "bound": "link" if link > run else "compute",
    }


def _info(accelerator, image, arguments):
    engine = accelerator.engine
    port = accelerator.link.port
    return {
        "port": port.name, "baud": port.baudrate, "boards": boards_of(engine),
        "engine": engine.to_dict(),
    }


def _print_info(result):
    names = ", ".join(result["boards"]) or "no known board"
    print(f"{result['port']} at {result['baud']} baud: engine of {names}")
    for name, value in result["engine"].items():
        print(f"  {name:14} {value}")


def _load(accelerator, image, arguments):
    start = time.perf_counter()
    written = accelerator.load(image, arguments.force, progress=True)
    return {
        "model": arguments.model, "checksum": image.checksum, "written": written,
        "seconds": time.perf_counter() - start,
    }


def _print_load(result):
    done = "loaded in" if result["written"] else "was there already:"
    print(f"{result['model']}: {done} {result['seconds']:.2f} s")


def _infer(accelerator, image, arguments):
    frame = read_picture(arguments.picture, image.network)
    accelerator.load(image, progress=True)
    layers = {}
    if arguments.spikes:
        traces, result = accelerator.trace(frame)
        layers["layers"] = [
            {"name": t.name, "spikes": t.count, "firing_rate": t.rate, "cycles": t.cycles}
            for t in traces
        ]
    else:
        result = accelerator.infer(frame)
    return {
        "model": arguments.model, "image": arguments.picture, "class": result.label,
        "logits": result.logits.tolist(), "cycles": result.cycles, **layers,
    }


def _print_infer(result):
    print(f"class {result['class']}, {result['cycles']} cycles")
    print("logits", *result["logits"])
    if "layers" in result:
        print(f"{'layer':10} {'spikes':>8} {'rate':>7} {'cycles':>9}")
    for row in result.get("layers", ()):
        print(
            f"{row['name']:10} {row['spikes']:8} {row['firing_rate']:7.1%} {row['cycles']:9}"
        )


def _bench(accelerator, image, arguments):
    frames = _frames(image.network, arguments)
    accelerator.load(image, progress=True)
    return {
        "model": arguments.model, **measure(accelerator, frames), **accelerator.link.counts,
    }


def _print_bench(result):
    each = 1e3 / result["frames"]
    print(
        f"{result['frames']} frames: {result['frames_per_s']:.1f} frames/s end to end;"
        f" {result['seconds'] * each:.2f} ms a frame, {result['link_seconds'] * each:.2f} ms to"
        f" send it and {result['run_seconds'] * each:.2f} ms to run it:"
        f" {result['bound']}-bound, {result['link_share']:.0%} link"
    )


def _selftest(accelerator, image, arguments):
    from sw.golden import IntegerNetwork
    from sw.host.selftest import compare

    frames, golden = _frames(image.network, arguments), IntegerNetwork(image)
    accelerator.load(image, progress=True)
    return {
        "model": arguments.model, "data": arguments.data, "frames": len(frames),
        "differences": compare(accelerator, image, golden, frames), **accelerator.link.counts,
    }


def _print_selftest(result):
    for line in result["differences"][:10]:
        print(f"differs: {line}")
    verdict = "DIFFERENT from" if result["differences"] else "equal to"
    print(
        f"{result['frames']} frames: {verdict} the golden model and the cycle model;"
        f" {result['retries']} of {result['commands']} commands sent again"
    )


def _parser():
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--port", help="serial port (default: the only one there is)")
    add("--baud", type=int, help="bits a second (default: find out)")
    add("--timeout", type=float, default=TIMEOUT, metavar="SECONDS",
        help=f"time for a reply (default: {TIMEOUT})")
    add("--json", action="store_true", help="print the result as one line of JSON")

    parser = argparse.ArgumentParser(
        prog="python -m sw.host", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, show, text):
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(run=run, show=show)
        if name != "info":
            sub.add_argument("model", metavar="MODEL.bsnn", help="network image")
        return sub.add_argument

    command("info", _info, _print_info, "the engine of the board's bitstream")
    add = command("load", _load, _print_load, "write a network to the board")
    add("--force", action="store_true", help="even if it is there already")
    add = command("infer", _infer, _print_infer, "classify a picture")
    add("picture", metavar="IMAGE.png",
        help="scaled to the network's input; light on dark or not, as in its training data")
    add("--spikes", action="store_true", help="run layer by layer and count the spikes of each")
    for name, run, show, text, images in (
        ("bench", _bench, _print_bench, "frames a second, and what limits them", 100),
        ("selftest", _selftest, _print_selftest, "compare the board with the golden model", 5),
    ):
        add = command(name, run, show, text)
        add("-n", "--images", type=int, default=images, metavar="N",
            help=f"frames to run (default: {images})")
        add("--data", default=NOISE, help="data set to take them from (default: noise)")
        add("--data-root", metavar="DIR", help="where the data set lies")
    return parser


def main(argv=None):
    """Command line. Returns the exit status: 0, 1 if a selftest differs, 2 could not run."""
    arguments = _parser().parse_args(argv)
    try:
        image = load_image(arguments.model) if "model" in arguments else None
        with Accelerator.open(arguments.port, arguments.baud, arguments.timeout) as accelerator:
            result = arguments.run(accelerator, image, arguments)
    except (
        EngineError, ExportError, FrameError, ImageError, LinkError, ProtocolError
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nhost: stopped", file=sys.stderr)
        return 130
    if arguments.json:
        print(json.dumps(result))
    else:
        arguments.show(result)
    return 1 if result.get("differences") else 0


if __name__ == "__main__":
    sys.exit(main())

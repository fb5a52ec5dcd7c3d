"""The driver and the simulated accelerator over a line that damages, loses, doubles and swaps.

Ten thousand frames run with the tests. A million, with a report: python -m tests.sim.link_faults
"""

import argparse
import hashlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hw.verilog import endpoint_verilog
from sim.emulate import QUIET_BITS, Emulator
from sw import framing, protocol
from sw.files import replace_file
from sw.golden import IntegerNetwork
from sw.host import link
from sw.host.accelerator import Accelerator
from sw.host.link import LinkError, LostSession
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.program import Region
from tests.faults import FAULTS
from tests.hw.support import SMALL
from tests.support import random_frames, random_image

__all__ = ["FaultyPort", "main", "run"]

RESULTS = Path("results/link-faults.json")

ENGINE = replace(SMALL, spike_depth=4096)
NETWORK = Network("faults", Shape(1, 3, 3), [Stem(4), Conv(4), Readout(2)])

#: 16-bit words of the spike memory where no map of NETWORK lies.
FREE = range(2000, 6000)


class FaultyPort:
    """A serial port on which one in ``1 / rate`` frames or pieces of a reply meets a fault."""

    def __init__(self, port, rate, seed):
        self._port, self.rate, self._random = port, rate, random.Random(seed)
        self.faults = Counter()
        self._waiting = bytearray()

    def __getattr__(self, name):
        return getattr(self._port, name)

    def __setattr__(self, name, value):
        if name in ("timeout", "write_timeout", "baudrate"):
            setattr(self._port, name, value)
        else:
            super().__setattr__(name, value)

    def _err(self, octets):
        octets = bytearray(octets)
        if octets and self._random.random() < self.rate:
            fault = self._random.choice(list(FAULTS))
            FAULTS[fault](self._random, octets)
            self.faults[fault] += 1
        return octets

    def write(self, octets):
        self._port.write(bytes(self._err(octets)))

    def read(self, count=1):
        if not self._waiting:
            self._waiting += self._err(self._port.read(count))
        octets = bytes(self._waiting[:count])
        del self._waiting[:count]
        return octets


class _Session:
    """What the device must hold, and commands at random whose answers are known."""

    def __init__(self, accelerator, rng):
        self.accelerator, self.link, self.rng = accelerator, accelerator.link, rng
        self.words = {}
        image = random_image(NETWORK)
        accelerator.load(image)
        self.frames = random_frames(NETWORK, 16).numpy()
        self.logits = IntegerNetwork(image)(random_frames(NETWORK, 16)).tolist()

    def _write(self):
        start, count = self.rng.choice(FREE), self.rng.randint(0, 12)
        words = [self.rng.getrandbits(16) for _ in range(count)]
        self.words |= {start + n: None for n in range(count)}
        protocol.check_status(
            self.link.ask(protocol.encode_write(Region.SPIKES, start, words))
        )
        self.words |= {start + n: word for n, word in enumerate(words)}
        return True

    def _read(self):
        start, count = self.rng.choice(FREE), self.rng.randint(0, 40)
        words = protocol.decode_words(self.link.ask(protocol.encode_read(start, count)))
        wanted = [self.words.get(start + n) for n in range(count)]
        return len(words) == count and all(
            one is None or one == other for one, other in zip(wanted, words.tolist(), strict=True)
        )

    def _info(self):
        return protocol.decode_info(self.link.ask(protocol.INFO)) == ENGINE

    def _infer(self):
        number = self.rng.randrange(len(self.frames))
        got = self.accelerator.infer(self.frames[number])
        return np.array_equal(got.logits, self.logits[number])

    def step(self):
        """Whether the answer to something at random is right."""
        kinds, weights = (self._write, self._read, self._info, self._infer), (5, 8, 1, 2)
        return self.rng.choices(kinds, weights)[0]()


def sources():
    """Digest of both ends of the line."""
    text = endpoint_verilog(ENGINE, QUIET_BITS)
    text += "".join(Path(module.__file__).read_text() for module in (framing, link, protocol))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run(frames, seed=1, rate=0.01, timeout=0.05, quiet=True):
    """Sends at least so many frames; a dict of what happened.

    wrong: answers that were taken for right and were not. broken: times that the driver gave up and
    a new session was opened. longest: seconds of one command, retries included.
    """
    started, wrong, broken, longest, done = time.monotonic(), [], 0, 0.0, 0
    rng = random.Random(seed)
    with Emulator(ENGINE) as emulator:
        with Accelerator.open(emulator.port, framing.BAUDS[0], timeout) as accelerator:
            session = _Session(accelerator, rng)
            host = accelerator.link
            port = host.port = FaultyPort(host.port, rate, seed)
            # A run takes a millisecond.
            host.run_timeout = 4 * timeout
            with tqdm(total=frames, unit="frame", disable=quiet or None) as bar:
                while done < frames:
                    begun, before = time.monotonic(), host.counts["commands"]
                    try:
                        if not session.step():
                            wrong.append(f"after {host.counts['commands']} commands")
                    except LostSession:
                        host.open()
                    except LinkError:
                        broken += 1
                        while True:
                            try:
                                host.open()
                                break
                            except LinkError:
                                broken += 1
                    except protocol.ProtocolError as error:
                        wrong.append(f"after {host.counts['commands']} commands: {error}")
                    longest = max(longest, time.monotonic() - begun)
                    done += host.counts["commands"] - before
                    bar.update(host.counts["commands"] - before)
    return {
        "command": f"python -m tests.sim.link_faults --frames {frames} --seed {seed}"
        f" --rate {rate}",
        "source": sources(), "frames": done, "faults": dict(sorted(port.faults.items())),
        **{name: host.counts[name] for name in ("retries", "timeouts", "damaged")},
        "broken": broken, "wrong": wrong, "longest": round(longest, 3),
        "seconds": round(time.monotonic() - started, 1),
    }


def main(argv=None):
    """Exit status 0, or 1 when an answer was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.link_faults",
        description=f"{__doc__.splitlines()[0]} Writes {RESULTS}.",
    )
    parser.add_argument("--frames", type=int, default=1_000_000, help="default: a million")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.003, help="of faults (default: 0.003)")
    args = parser.parse_args(argv)
    report = run(args.frames, args.seed, args.rate, quiet=False)
    replace_file(RESULTS, json.dumps(report, indent=2) + "\n")
    print(
        f"{report['frames']:,} frames, {sum(report['faults'].values()):,} faults,"
        f" {len(report['wrong'])} wrong answers; {report['retries']:,} sent again, the longest took"
        f" {report['longest']} s"
    )
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())

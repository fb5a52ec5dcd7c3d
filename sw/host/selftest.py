"""Compares a board with the golden model, layer by layer."""

import numpy as np
import torch
from tqdm import tqdm

from sw.cycles import cycles_per_frame, layer_cycles
from sw.engine import EngineError

__all__ = ["compare"]


def _difference(name, expected, got):
    """One line that says where two arrays part, which they do."""
    wrong = np.argwhere(expected != got)
    place = tuple(wrong[0].tolist())
    return (
        f"{name}: {len(wrong)} of {expected.size} values differ, first at {place}: golden"
        f" {expected[place]}, board {got[place]}"
    )


def compare(accelerator, image, golden, frames):
    """Lines that say where the board differs from the golden and the cycle model.

    golden: IntegerNetwork of the same image, except where a test wants a difference. frames: uint8
    ``[N, *network.frame_shape]``. Every frame runs twice: layer by layer, and in a stream.
    """
    network, engine, exact = image.network, accelerator.engine, image.gain_mode == "exact"
    logits, boundaries = golden(torch.as_tensor(frames), record=True)
    cycles = [layer_cycles(network, i, engine, exact) for i in range(len(network.layers))]
    differences = []

    def check(name, values, got, model_cycles, spent):
        if not np.array_equal(values, got):
            differences.append(_difference(name, values, got))
        if spent != model_cycles:
            differences.append(f"{name}: {spent} cycles, the cycle model says {model_cycles}")

    for number, frame in enumerate(tqdm(frames, "selftest", leave=False, disable=None)):
        try:
            traces, result = accelerator.trace(frame)
        except EngineError as error:
            differences.append(f"frame {number}: {error}")
            continue
        for trace, boundary, expected in zip(traces, boundaries, cycles, strict=False):
            spikes = boundary.spikes[:, number].numpy()
            check(f"frame {number} {trace.name}", spikes, trace.spikes, expected, trace.cycles)
        check(
            f"frame {number} {network.layer_name(len(network.layers) - 1)}",
            logits[number].numpy(), result.logits, sum(cycles), result.cycles,
        )
    expected = cycles_per_frame(network, engine, exact, accelerator.program.ahead)
    for number, result in enumerate(accelerator.stream(frames)):
        name = f"frame {number} in a stream"
        check(name, logits[number].numpy(), result.logits, expected, result.cycles)
    return differences

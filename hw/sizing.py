"""What a network takes on a board, without synthesis: cycles, cells, memories, limits."""

from itertools import pairwise

import numpy as np

from hw.estimate import PARTS, estimate
from hw.report import network_report
from sw.layers import Stem
from sw.program import Region, compile_program, region_words

__all__ = ["sizing", "used_words"]


def used_words(program):
    """Region -> 16-bit words of it that a network uses.

    The spike memory holds the input and the output of a layer at a time, one more map where a stem
    works ahead, and a word or two that no map may have, which are not counted.
    """
    network = program.network
    used = {region: len(words) for region, words in program.regions.items()}
    if not network.coded:
        frame = np.zeros(network.frame_shape, np.uint8)
        used[Region.FRAME] = len(program.pack_frame(frame))
    maps = [program.boundary_words(index)[1] for index in range(len(network.layers))]
    used[Region.SPIKES] = max(map(sum, pairwise(maps))) + (maps[0] if program.ahead else 0)
    return used


def _memories(program):
    """Of each memory that the host fills, the 16-bit words in use and those there are."""
    used = used_words(program)
    return [
        {"name": region.name, "used": used.get(region, 0), "available": size,
         "share": round(used.get(region, 0) / size, 4)}
        for region, size in sorted(region_words(program.engine).items())
    ]


def _spike_map(program):
    """Where each layer's output lies: its first 16-bit word and their number."""
    network = program.network
    places = (program.boundary_words(index) for index in range(len(network.layers)))
    return [
        {"layer": network.layer_name(index), "first": first, "words": words}
        for index, (first, words) in enumerate(places)
    ]


def _limits(network, speed, memories):
    """Sentences: what takes the time, what is nearest to full, what the serial line does."""
    layers = speed["layers"]
    slowest = max(layers, key=lambda layer: layer["cycles"])
    total = sum(layer["cycles"] for layer in layers)
    share = slowest["utilisation"]
    why = "on the stem's own core" if share is None else f"with {share:.0%} of the array in use"
    if share is not None and isinstance(network.layers[0], Stem) and slowest is layers[0]:
        why = "a byte of the frame a cycle, on multipliers and not on the array"
    # The sigmoid table has one size.
    fullest = max(
        (memory for memory in memories if memory["name"] != Region.SIGMOID.name),
        key=lambda memory: memory["share"],
    )
    line, run = speed["line_ms_per_frame"], 1e3 / speed["frames_per_s"]
    bound = "line" if line > run else "compute"
    return [
        f"{slowest['name']} takes {slowest['cycles'] / total:.0%} of the layers' cycles, {why}",
        f"{fullest['name']} is the fullest memory, {fullest['share']:.0%}",
        f"{bound}-bound: {line:.2f} ms on the serial line, {run:.2f} ms of computation a frame",
    ]


def _cells(part, engine):
    """What the engine takes of the part: logic is estimated, the rest exact."""
    takes = estimate(part, engine)
    return [
        {"name": name, "used": takes[name], "available": available,
         "share": round(takes[name] / available, 4)}
        for name, available in part.cells.items()
    ]


def sizing(board, image, clock_hz=None):
    """A dict of what ``image`` takes on ``board``, exact but for the logic cells.

    Keys of ``hw.report.network_report``, and board, device, clock_mhz, engine, cells, memories,
    spike_map and limits. Raises EngineError if the network does not fit, ClockError or BaudError.
    """
    engine = board.engine
    program = compile_program(image, engine)
    frequency = board.clock_generator(clock_hz or board.clock_hz).frequency_hz
    speed = network_report(image, program, frequency, board.baud(frequency))
    memories = _memories(program)
    return {
        "board": board.name,
        "device": f"{board.platform.device}-{board.platform.package}",
        "clock_mhz": float(frequency) / 1e6,
        "engine": engine.to_dict(),
        **speed,
        "cells": _cells(PARTS[board.platform.device], engine),
        "memories": memories,
        "spike_map": _spike_map(program),
        "limits": _limits(image.network, speed, memories),
    }

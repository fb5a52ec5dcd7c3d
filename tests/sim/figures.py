"""A demo's summary and examples, made up."""

import numpy as np

from sim.page import Example


def summary(**changes):
    return {
        "network": "tiny <net>", "T": 2, "model": "m.bsnn", "checksum": "0123456789abcdef" * 4,
        "images": 360, "simulated_images": 5, "simulator": "verilator",
        "float_accuracy": 0.9972, "integer_accuracy": 0.9944, "agreement": 0.9917,
        "rtl_accuracy": 0.8, "boundaries": 15, "differences": [],
        "cycles_per_frame": 1000, "cycle_model": 1000,
        "layers": [
            {"name": "stem0", "cycles": 300, "firing_rates": [0.1, 0.2]},
            {"name": "conv1", "cycles": 600, "firing_rates": [0.0, 0.3]},
            {"name": "readout2", "cycles": 100, "firing_rates": None},
        ],
        "history": [
            {"epoch": e, "loss": 2 / e, "train_accuracy": 0.5 + e / 10, "test_accuracy": e / 4,
             "flip_ratio": 0.1 / e}
            for e in (1, 2, 3)
        ],
        "bitstream": {
            "board": "icebreaker", "device": "iCE40UP5K", "lut4": 3210, "bram": 29, "spram": 4,
            "dsp": 8, "ff": 1500, "fmax_mhz": 26.54, "clock_mhz": 24.0, "frames_per_s": 24000.0,
            "seed": 7, "cycles_per_frame": 1000, "tools": {"yosys": "1.2"},
            "occupancy": {
                "bram": {"used": 29, "available": 30}, "spram": {"used": 4, "available": 4},
                "dsp": {"used": 8, "available": 8},
                "logic_cells": {"used": 4000, "available": 5280},
            },
        },
        "commands": ["make sim MODEL=m.bsnn"],
    } | changes


def examples():
    generator = np.random.default_rng(0)
    frame = generator.integers(0, 256, (1, 8, 8), dtype=np.uint8)
    spikes = [generator.integers(0, 2, shape, dtype=np.uint8)
              for shape in ((2, 16, 8, 8), (2, 20, 4, 4))]
    return [Example(frame, 3, spikes, np.array([1, 5, 2, 9]))]

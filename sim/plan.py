"""What a simulation is to do and to find: written by ``sim.run``, read inside the simulator."""

import json
from dataclasses import dataclass, field

import numpy as np

from sw.engine import Engine
from sw.layers import Network
from sw.program import Program, Region

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Frames, and what the hardware must make of them.

    program: what to load. frames: uint8 [N, *network.frame_shape]. boundaries: for each layer the
    golden spikes [N, T, C, H, W] or logits [N, classes]. cycles: for each layer, by the cycle
    model. frame_cycles: from a frame to the next. stalls: of the byte port (``sim.driver``).
    """

    program: Program
    frames: np.ndarray
    boundaries: list
    cycles: list
    frame_cycles: int
    stalls: dict = field(default_factory=dict)

    def save(self, path):
        program = self.program
        meta = {
            "engine": program.engine.to_dict(), "network": program.network.to_dict(),
            "boundaries": program.boundaries, "ahead": program.ahead, "cycles": self.cycles,
            "frame_cycles": self.frame_cycles, "stalls": self.stalls,
        }
        arrays = {f"region_{region.name}": words for region, words in program.regions.items()}
        arrays |= {f"boundary_{i}": array for i, array in enumerate(self.boundaries)}
        np.savez_compressed(path, meta=json.dumps(meta), frames=self.frames, **arrays)

    @classmethod
    def load(cls, path):
        with np.load(path, allow_pickle=False) as data:
            meta = json.loads(str(data["meta"]))
            program = Program(
                engine=Engine.from_dict(meta["engine"]),
                network=Network.from_dict(meta["network"]),
                regions={
                    region: data[f"region_{region.name}"] for region in Region
                    if f"region_{region.name}" in data
                },
                boundaries=tuple(meta["boundaries"]),
                ahead=meta["ahead"],
            )
            boundaries = [data[f"boundary_{i}"] for i in range(len(meta["cycles"]))]
            return cls(
                program, data["frames"], boundaries, meta["cycles"], meta["frame_cycles"],
                meta["stalls"],
            )

"""The shape of a built accelerator, and the engine that each board carries."""

from dataclasses import asdict, dataclass

from sw.layers import LEAKS

__all__ = ["ENGINES", "Engine", "EngineError"]


class EngineError(ValueError):
    """An engine that cannot be built, or a network that does not fit one."""


#: What the hardware can address and carry: a layer number is a byte, membranes are two bits wider
#: than a current of at most 18.
_LIMITS = (
    ("weight_depth", 2, 1 << 20), ("spike_depth", 2, 1 << 16), ("channel_depth", 4, 1 << 16),
    ("mean_depth", 2, 1 << 16), ("layer_depth", 2, 255), ("current_width", 8, 18),
)


def _is_power_of_two(value):
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Folding and memory sizes of an accelerator.

    pe: output channels computed at once. simd: input channels summed at once. lanes: time steps
    computed at once. units: output channels whose bias, gain and LIF are computed at once: those of
    a tile take pe / units cycles, and no tile is shorter. All four are powers of two, 4 <= pe <=
    simd, units <= pe / 4 and simd * lanes >= 32 * units.
    weight_depth: words of pe * simd bits. spike_depth: words of simd * lanes bits, shared by the
    frame, the spike maps and the logits. channel_depth: output channels of all layers together.
    mean_depth: words of the AGMM position tables. layer_depth: layers of a program.
    current_width: bits of the signed input current of the LIF units, fraction included.
    leak_shifts: leaks of the membrane that are built in; 1 alone (tau = 0.5) costs least.
    """

    pe: int
    simd: int
    lanes: int
    weight_depth: int
    spike_depth: int
    channel_depth: int
    mean_depth: int
    units: int = 1
    layer_depth: int = 8
    current_width: int = 16
    leak_shifts: tuple = (0, 1, 2, 3)

    def __post_init__(self):
        object.__setattr__(self, "leak_shifts", tuple(self.leak_shifts))
        if not self.leak_shifts or not set(self.leak_shifts) <= set(LEAKS.values()):
            raise EngineError(f"leak_shifts must be some of {tuple(LEAKS.values())}")
        for name in ("pe", "simd", "lanes", "units"):
            if not _is_power_of_two(getattr(self, name)):
                raise EngineError(f"{name} must be a power of two, got {getattr(self, name)}")
        if self.pe > self.simd or self.simd < 8:
            raise EngineError(f"simd must be at least pe and 8, got pe={self.pe} simd={self.simd}")
        if self.simd * self.lanes < 32 or self.lanes > 16:
            raise EngineError("simd * lanes must be at least 32, and lanes at most 16")
        for name, low, high in _LIMITS:
            if not low <= getattr(self, name) <= high:
                raise EngineError(f"{name} must be {low} to {high}, got {getattr(self, name)}")
        if self.groups < 4:
            raise EngineError(
                f"pe must be at least 4 * units, got pe={self.pe} units={self.units}"
            )
        if self.simd * self.lanes < 32 * self.units:
            raise EngineError("simd * lanes must be at least 32 * units: a logit each")
        for name in ("channel_depth", "mean_depth"):
            if getattr(self, name) % self.units:
                raise EngineError(f"{name} must be a multiple of units={self.units}")

    @property
    def groups(self):
        """Groups of ``units`` channels that the channels of a tile leave in, one a cycle."""
        return self.pe // self.units

    @property
    def macs_per_cycle(self):
        return self.pe * self.simd * self.lanes

    def to_dict(self):
        return asdict(self)


#: What ``make bitstream`` builds, by board. The UP5K's weights fill its four SPRAMs, 64 bits wide.
ENGINES = {
    "icebreaker": Engine(
        pe=4, simd=16, lanes=4,
        weight_depth=16384, spike_depth=1024, channel_depth=512, mean_depth=2048,
        leak_shifts=(1,),
    ),
    "ulx3s-85f": Engine(
        pe=16, simd=32, lanes=4, units=2,
        weight_depth=4096, spike_depth=2048, channel_depth=2048, mean_depth=8192,
        layer_depth=16, current_width=18,
    ),
}

"""The shape of a built accelerator, and the engine that each board carries."""

from dataclasses import asdict, dataclass, replace

from sw.formats import STREAM_BITS
from sw.layers import LEAKS

__all__ = ["ENGINES", "Engine", "EngineError", "boards_of"]


class EngineError(ValueError):
    """An engine that cannot be built, or a network that does not fit one."""


#: What the hardware can address and carry: a layer number is a byte, membranes are two bits wider
#: than a current of at most 18.
_LIMITS = (
    ("weight_depth", 2, 1 << 20), ("spike_depth", 2, 1 << 16), ("frame_depth", 2, 1 << 16),
    ("channel_depth", 4, 1 << 16), ("mean_depth", 2, 1 << 16), ("layer_depth", 2, 255),
    ("current_width", 8, 18), ("stream_depth", 0, 1 << 16),
)


def _is_power_of_two(value):
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Folding and memory sizes of an accelerator.

    pe: output channels computed at once. simd: input channels summed at once. lanes: time steps
    computed at once. units: output channels whose bias, gain and LIF are computed at once: those of
    a tile take pe / units cycles, and no tile is shorter. All four are powers of two, 4 <= pe <=
    simd, units <= pe / 4, simd * lanes >= 32 * units and pe * lanes >= 16.
    pixels: a map is cut into so many strips (``sw.strips``), each with lanes / pixels lanes: those
    are its time steps. More than one rules out exact gains and a stem core.
    passes: a network of more time steps runs in up to so many passes, a power of two. More than one
    needs pe / units to be at least the time steps of a pass.
    weight_depth: words of pe * simd bits. spike_depth: words of simd * lanes bits, shared by the
    spike maps and the logits. frame_depth: 16-bit words of a frame. channel_depth: output channels
    of all layers together. mean_depth: words of the AGMM position tables. layer_depth: layers of a
    program. current_width: bits of the signed input current of the LIF units, fraction included.
    leak_shifts: leaks of the membrane that are built in; 1 alone (tau = 0.5) costs least.
    stream_depth: words of units * lanes * 16 bits of the residual stream: what networks with
    shortcuts need. 0: none. It rules out strips and a stem core, and takes currents of 16 bits.
    deep: registers in front of the array and inside its popcounts, for faster clocks: three cycles
    more a layer, but not for a stem.
    stem: folding and memories of a second core for the stem, which works a frame ahead while the
    other layers run; it shares all but pe, units and its memory depths with this one, and its
    weights have 8 * pe bits. Without it, the stem runs like the other layers.
    """

    pe: int
    simd: int
    lanes: int
    pixels: int = 1
    passes: int = 1
    weight_depth: int
    spike_depth: int
    channel_depth: int
    mean_depth: int
    stream_depth: int = 0
    frame_depth: int = 512
    units: int = 1
    layer_depth: int = 8
    current_width: int = 16
    leak_shifts: tuple = (0, 1, 2, 3)
    deep: bool = False
    stem: "Engine | None" = None

    def __post_init__(self):
        object.__setattr__(self, "leak_shifts", tuple(self.leak_shifts))
        self._check()
        if self.stem is not None:
            # Sides of the spike memory are mirror images: an address and its complement.
            if not _is_power_of_two(self.spike_depth):
                raise EngineError(
                    f"with a stem core, spike_depth must be a power of two, got {self.spike_depth}"
                )
            if self.stem != self.stem_core(**self.stem.sizes):
                raise EngineError("the stem core differs in more than pe, units and depths")

    @property
    def sizes(self):
        """What the core of a stem may have otherwise than the core of the other layers."""
        names = ("pe", "units", "weight_depth", "channel_depth", "mean_depth")
        return {name: getattr(self, name) for name in names}

    def stem_core(self, **sizes):
        """This engine as the core of a stem, with other ``sizes``."""
        return replace(self, **sizes, layer_depth=2, stem=None)

    def core(self, index):
        """The folding that layer ``index`` of a network runs on."""
        return self.stem if index == 0 and self.stem is not None else self

    def _check(self):
        if not self.leak_shifts or not set(self.leak_shifts) <= set(LEAKS.values()):
            raise EngineError(f"leak_shifts must be some of {tuple(LEAKS.values())}")
        for name in ("pe", "simd", "lanes", "pixels", "passes", "units"):
            if not _is_power_of_two(getattr(self, name)):
                raise EngineError(f"{name} must be a power of two, got {getattr(self, name)}")
        if self.pe > self.simd or self.simd < 8:
            raise EngineError(f"simd must be at least pe and 8, got pe={self.pe} simd={self.simd}")
        if self.simd * self.lanes < 32 or self.lanes > 16:
            raise EngineError("simd * lanes must be at least 32, and lanes at most 16")
        if self.pe * self.lanes < 16:
            raise EngineError("pe * lanes must be at least 16: a tile is written in whole banks")
        for name, low, high in _LIMITS:
            if not low <= getattr(self, name) <= high:
                raise EngineError(f"{name} must be {low} to {high}, got {getattr(self, name)}")
        if self.pixels > self.lanes:
            raise EngineError(
                f"pixels must be at most lanes, got pixels={self.pixels} lanes={self.lanes}"
            )
        if self.passes > 1 and self.groups < self.steps:
            raise EngineError(
                f"passes need pe / units to be at least lanes / pixels, got {self.groups} and"
                f" {self.steps}"
            )
        if self.passes * self.steps > 16:
            raise EngineError(
                f"passes must be at most {16 // self.steps} for {self.steps} time steps each, got"
                f" {self.passes}"
            )
        if self.passes * self.pixels > 64:
            raise EngineError(
                f"passes * pixels must be at most 64, got {self.passes} * {self.pixels}"
            )
        if self.pixels > 1 and self.stem is not None:
            raise EngineError("a stem core needs pixels=1")
        if self.stream_depth and (self.pixels > 1 or self.stem is not None):
            raise EngineError("stream_depth needs pixels=1 and no stem core")
        if self.stream_depth and self.current_width < STREAM_BITS:
            raise EngineError(
                f"stream_depth needs current_width={STREAM_BITS} at least, got {self.current_width}"
            )
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
    def steps(self):
        """Time steps computed at once: the lanes of one pixel."""
        return self.lanes // self.pixels

    def passes_of(self, T):
        """Passes that T time steps take."""
        return -(-T // self.steps)

    @property
    def exact_gain(self):
        """Whether the gains that depend on the mean are built in."""
        return self.pixels == 1

    @property
    def has_stream(self):
        """Whether shortcuts are built in."""
        return self.stream_depth > 0

    @property
    def groups(self):
        """Groups of ``units`` channels that the channels of a tile leave in, one a cycle."""
        return self.pe // self.units

    @property
    def macs_per_cycle(self):
        """Binary MACs; the 8-bit ones of a stem are not counted."""
        return self.pe * self.simd * self.lanes

    def to_dict(self):
        return asdict(self)

    @classmethod
    def from_dict(cls, data):
        stem = data["stem"] and cls.from_dict(data["stem"])
        return cls(**{**data, "stem": stem})


#: The UP5K's weights fill its four SPRAMs, 64 bits wide.
_UP5K = Engine(
    pe=4, simd=16, lanes=4,
    weight_depth=16384, spike_depth=768, frame_depth=512, channel_depth=512, mean_depth=2048,
    leak_shifts=(1,),
)

#: One time step, and four pixels at once instead.
_UP5K_T1 = Engine(
    pe=4, simd=16, lanes=4, pixels=4,
    weight_depth=16384, spike_depth=1024, frame_depth=1536, channel_depth=768, mean_depth=2,
    layer_depth=16, leak_shifts=(1,),
)

#: Weights in block RAM, all 32 of which hold fashion-mnist-fast; its multipliers are LUTs.
_HX8K = Engine(
    pe=4, simd=8, lanes=4,
    weight_depth=2304, spike_depth=768, frame_depth=512, channel_depth=256, mean_depth=512,
    layer_depth=4, current_width=14, leak_shifts=(1,),
)

#: Most of the block RAM; fashion-mnist's weights would be too many.
_GW1NR_9 = Engine(
    pe=4, simd=16, lanes=4,
    weight_depth=3072, spike_depth=1024, frame_depth=512, channel_depth=512, mean_depth=2048,
    leak_shifts=(1,),
)

#: Half the array of the 85F, which places but does not route here; the multipliers of a stem core
#: would be too many.
_ECP5_25F = Engine(
    pe=8, simd=64, lanes=4, units=2,
    weight_depth=1024, spike_depth=512, frame_depth=1024, channel_depth=1024, mean_depth=2048,
    leak_shifts=(1,), deep=True,
)

#: The CNV shape (``sw.networks``) fills its weights; its stem core works ahead on maps of up to
#: 900 words.
_ECP5_85F_CORE = Engine(
    pe=16, simd=64, lanes=4, units=4,
    weight_depth=2048, spike_depth=2048, frame_depth=1536, channel_depth=2048, mean_depth=16384,
    layer_depth=16, leak_shifts=(1,), deep=True,
)
_ECP5_85F = replace(
    _ECP5_85F_CORE,
    stem=_ECP5_85F_CORE.stem_core(
        pe=32, units=1, weight_depth=128, channel_depth=64, mean_depth=2048
    ),
)

#: Twice the output channels at once, and a stem core that keeps up.
_ECP5_85F_WIDE = replace(
    _ECP5_85F_CORE, pe=32, weight_depth=1024,
    stem=_ECP5_85F_CORE.stem_core(
        pe=64, units=2, weight_depth=64, channel_depth=64, mean_depth=2048
    ),
)

#: Room for the stream of 16 channels of 32 x 32 pixels, and a readout of 64 x 8 x 8 spikes.
_ECP5_85F_RESIDUAL = replace(
    _ECP5_85F_CORE, simd=32, spike_depth=2304, channel_depth=1024, mean_depth=8192, layer_depth=32,
    current_width=17, stream_depth=4096,
)

#: What ``make bitstream`` builds, by board. Boards with the same part share an engine, and any
#: network image runs on all of them alike.
ENGINES = {
    "icebreaker": _UP5K,
    "icebreaker-t1": _UP5K_T1,
    "upduino-v3": _UP5K,
    "icesugar": _UP5K,
    "hx8k-evn": _HX8K,
    "tang-nano-9k": _GW1NR_9,
    "ulx3s-25f": _ECP5_25F,
    "orangecrab": _ECP5_25F,
    "colorlight-5a-75b": _ECP5_25F,
    "ulx3s-85f": _ECP5_85F,
    "ulx3s-85f-wide": _ECP5_85F_WIDE,
    "ulx3s-85f-residual": _ECP5_85F_RESIDUAL,
    "ecpix5": _ECP5_85F,
}


def boards_of(engine):
    """Names of the boards that carry ``engine``, in the order of ENGINES."""
    return [name for name, known in ENGINES.items() if known == engine]

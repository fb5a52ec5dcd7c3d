"""Strips: a map cut by rows, so that lanes work on several pixels at once.

An engine with ``pixels`` > 1 cuts every map into so many strips of equal height. A word of the
spike memory holds the same pixel of each: strip p in the lanes from p * steps on. One address walks
all strips, and the array need not know that its lanes are not all of one pixel.

Where a kernel reaches beyond a strip, it finds a halo: the rows of its neighbours are stored once
more, above and below, moved over by one strip. Beyond the first and the last strip they are zero.
"""

from dataclasses import dataclass

from sw.engine import EngineError
from sw.layers import Conv

__all__ = ["Strips", "strips"]


@dataclass(frozen=True)
class Strips:
    """A map in the spike memory: ``rows`` of each strip, and of its halos ``above`` and ``below``.

    Rows of the last strips that are beyond the map are silent.
    """

    rows: int
    above: int = 0
    below: int = 0

    @property
    def stored_rows(self):
        return self.above + self.rows + self.below


def strips(network, engine):
    """Strips of the output of each layer but the readout. Raises EngineError."""
    maps = [shape.height for shape in network.shapes[1:-1]]
    if engine.pixels == 1:
        return [Strips(height) for height in maps]
    # A strip comes from the same strip of the layer before: its rows times stride and pooling.
    scales, scale = [], 1
    for layer in reversed(network.layers[1:-1]):
        scales.append(scale)
        scale *= layer.stride * layer.pool
    scales = [*scales, scale][::-1]
    last = max(
        -(-height // (engine.pixels * scale))
        for height, scale in zip(maps, scales, strict=True)
    )
    result = []
    for index, scale in enumerate(scales):
        reader = network.layers[index + 1]
        above = below = 0
        if isinstance(reader, Conv):
            above = reader.padding
            below = max(0, reader.kernel - reader.padding - reader.stride)
        if max(above, below) > last * scale:
            raise EngineError(
                f"{network.name} does not fit: strips of {last * scale} rows before"
                f" {network.layer_name(index + 1)}, whose kernel needs {max(above, below)} rows of"
                " its neighbours"
            )
        result.append(Strips(last * scale, above, below))
    return result

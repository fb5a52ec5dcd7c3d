"""The residual stream in an engine: where it lies, and what the record of a layer says of it.

Words lie in the order in which channels leave the array: pixel, tile, pass, group of ``units``.
"""

from sw import formats
from sw.engine import EngineError
from sw.layers import Conv, ResidualConv, averages, projects
from sw.record import Kind

__all__ = ["check_stream", "projection_fields", "stream_bases", "stream_fields"]


def _pixel_words(channels, engine, passes):
    """Words of a pixel: of all tiles in all passes."""
    return -(-channels // engine.pe) * passes * engine.groups


def stream_bases(network, engine):
    """First word of the stream behind each layer. Raises EngineError.

    A stream takes the place of the one before; but a projection reads that to the end, so its own
    lies before that or at the end of the memory.
    """
    bases, base, before, depth = [], 0, 0, engine.stream_depth
    for index, layer in enumerate(network.layers):
        words = 0
        if network.is_streamed(index):
            out = network.shapes[index + 1]
            groups = _pixel_words(out.channels, engine, engine.passes_of(network.T))
            words = out.height * out.width * groups
            needed = words + (before if projects(layer) else 0)
            problem = f"{needed} words of the stream" if needed > depth else None
            if not isinstance(layer, ResidualConv) or (layer.projection and words <= base):
                base = 0
            elif layer.projection:
                # The stream before may have shrunk since it was laid out.
                if not problem and base + needed > depth:
                    problem = f"{words} words in one piece, beside {before} from {base} on"
                base = depth - words
            if problem:
                raise EngineError(
                    f"{network.name} does not fit: {network.layer_name(index)} needs {problem}, the"
                    f" engine has {depth}"
                )
        bases.append(base)
        before = words
    return bases


def check_stream(network, engine):
    """Refuse a network whose shortcuts the engine cannot carry."""
    for index, (layer, shape) in enumerate(zip(network.layers, network.shapes, strict=False)):
        if not network.is_streamed(index):
            continue
        if not engine.has_stream:
            raise EngineError(f"{network.name} does not fit: the engine is built without shortcuts")
        # The record's step from pass to pass is as wide as an address of the spike memory.
        if projects(layer) and engine.passes_of(network.T) > 1 and engine.pe >= engine.spike_depth:
            raise EngineError(
                f"{network.name} does not fit: {network.layer_name(index)} projects in several"
                f" passes, which takes more than {engine.pe} spike words, the engine has"
                f" {engine.spike_depth}"
            )
        # The counts are multiplied as they are, and must not wrap.
        most = (1 << (engine.current_width - formats.FRACTION)) - 1
        if isinstance(layer, Conv) and layer.fan_in(shape) > most:
            raise EngineError(
                f"{network.name} does not fit: {network.layer_name(index)} beside a shortcut sums"
                f" {layer.fan_in(shape)} inputs, the engine counts to {most}"
            )


def stream_fields(network, index, engine, base):
    """What the record of a layer says of the stream, whose own is at ``base``."""
    if not network.is_streamed(index):
        return {}
    layer, shape, passes = network.layers[index], network.shapes[index], engine.passes_of(network.T)
    words = _pixel_words(layer.channels, engine, passes)
    values = dict(streamed=1, stream_last=words - 1, stream_in=base, stream_out=base)
    if not isinstance(layer, ResidualConv):
        return values
    # What a projection has made already has the shape of what is written.
    before = words if layer.projection else _pixel_words(shape.channels, engine, passes)
    values |= dict(shortcut=1, shortcut_last=before - 1)
    if averages(layer):
        values |= dict(average=1, stream_row=shape.width * before)
    return values


def projection_fields(layer, shape, out, engine, base, before, passes):
    """The record of a projection from the stream at ``before`` to that at ``base``.

    Its elements are channels of the stream: those of a tile in one pass, then in the next.
    """
    pixel = engine.units * _pixel_words(shape.channels, engine, passes)
    return dict(
        kind=Kind.PROJECTION, channels=layer.channels, streamed=1,
        stream_last=_pixel_words(layer.channels, engine, passes) - 1, stream_out=base,
        kernel_last=0, depth_last=shape.channels - 1, stride=layer.stride, padding=0, row_jump=0,
        in_height=shape.height, in_width=shape.width, in_plane=engine.pe,
        start=before * engine.units, x_step=layer.stride * pixel,
        y_step=layer.stride * shape.width * pixel,
        out_height_last=out.height - 1, out_width_last=out.width - 1,
        first_pass=engine.passes - passes,
    )

"""Frames for a network that come from no data set: pictures and noise."""

import numpy as np
from PIL import Image

from sw.layers import Events

__all__ = ["NOISE", "FrameError", "noise", "read_picture"]

#: What noise is called among data sets.
NOISE = "noise"


class FrameError(ValueError):
    """Frames that cannot be used: what is wrong and what to do."""


def read_picture(path, network):
    """A picture file as a frame of the network, uint8 ``[C, H, W]``. Raises FrameError.

    Converted to gray or colour and scaled to the network's size; light stays light and dark dark.
    """
    channels, height, width = network.frame_shape[-3:]
    if isinstance(network.layers[0], Events) or channels not in (1, 3):
        raise FrameError(f"{network.name} takes no pictures: use bench or selftest")
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):
                raise FrameError(f"{path}: more than 8 bits a channel: save it with 8")
            pixels = picture.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError as error:
        raise FrameError(f"{path}: no such file") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, FrameError):
            raise
        raise FrameError(f"{path}: not a readable picture ({error})") from error
    if pixels.size != (width, height):
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    frame = np.asarray(pixels, np.uint8).reshape(height, width, channels)
    return np.ascontiguousarray(np.transpose(frame, (2, 0, 1)))


def noise(network, count):
    """Frames uint8 ``[count, *network.frame_shape]``, the same ones each time."""
    random, size = np.random.default_rng(0), (count, *network.frame_shape)
    if isinstance(network.layers[0], Events):
        # Most pixels see nothing in a time step.
        return random.poisson(0.2, size).astype(np.uint8)
    return random.integers(0, 256, size, np.uint8)

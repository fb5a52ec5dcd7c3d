"""Events of a camera that looks at the digits, made from them: an event data set for any machine.

The camera makes three saccades, along the sides of a triangle, as that of N-MNIST did (Orchard et
al. 2015). A pixel gives an event whenever its log-intensity has changed by ``CONTRAST`` since its
last one, ON or OFF (Lichtsteiner et al. 2008); no noise.
"""

from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional as F

from sw.data import digits
from sw.data.events import frames_of

__all__ = ["SIDE", "events_of", "load"]

SIDE = 16

#: Change of log-intensity for an event, and what is added to an intensity of 0 to 1: no pixel is
#: without any light.
CONTRAST, DARK = 0.25, 0.1

#: Corners of the way, in pixels from the middle, and steps from one to the next.
CORNERS = ((0, 0), (2, 2), (-2, 2), (0, 0))
STEPS = 12


def _way():
    """Offsets (x, y) of the camera, ``[3 * STEPS + 1, 2]``."""
    corners = torch.tensor(CORNERS, dtype=torch.float64)
    shares = torch.arange(STEPS, dtype=torch.float64)[:, None] / STEPS
    legs = [a + (b - a) * shares for a, b in pairwise(corners)]
    return torch.cat([*legs, corners[-1:]])


def _view(images, offset):
    """Light on the pixels, ``[N, SIDE, SIDE]``, of a camera that has turned by ``offset``."""
    # The sides of the image are at -1 and 1.
    x, y = (2 * offset / SIDE).tolist()
    theta = torch.tensor([[1, 0, x], [0, 1, y]], dtype=torch.float64).expand(len(images), 2, 3)
    grid = F.affine_grid(theta, (len(images), 1, SIDE, SIDE), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)[:, 0]


def events_of(images):
    """Events of each of uint8 images ``[N, 1, H, W]``: numpy arrays of t, in steps, x, y and p."""
    light = images.double() / 255
    way = _way()
    level = torch.log(_view(light, way[0]) + DARK)
    kind = np.dtype([("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", bool)])
    found = [[] for _ in images]
    for t, offset in enumerate(way[1:], 1):
        change = torch.log(_view(light, offset) + DARK) - level
        count = torch.trunc(change / CONTRAST)
        level += CONTRAST * count
        for n, counts in enumerate(count.numpy()):
            y, x = counts.nonzero()
            events = np.empty(len(x), kind)
            events["t"], events["x"], events["y"], events["p"] = t, x, y, counts[y, x] > 0
            found[n].append(events.repeat(np.abs(counts[y, x]).astype(int)))
    return [np.concatenate(parts) for parts in found]


def load(split, root=None, T=8):
    """Frames ``[N, T, 2, 16, 16]`` and labels of the digits' split."""
    images, labels = digits.load(split)
    frames = [frames_of(events, T, SIDE, SIDE) for events in events_of(images)]
    return torch.from_numpy(np.stack(frames)), labels

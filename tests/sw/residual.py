"""Networks with shortcuts, and engines for them."""

from dataclasses import replace

from sw.engine import Engine
from sw.layers import Conv, Network, Pixels, Readout, ResidualConv, Shape, Stem
from tests.sw.test_golden import changed

#: Maps of 6 x 8, then 3 x 4, then 1 x 2.
NETWORK = Network(
    "double", Shape(2, 6, 8),
    [Stem(4), ResidualConv(4), ResidualConv(7, stride=2), ResidualConv(7, kernel=1),
     Conv(6, pool=2), Readout(3)],
    T=4,
)
#: The first stream comes from a convolution; another begins, while the first ends.
LATER = Network(
    "later", Shape(2, 12, 8),
    [Stem(6, pool=2), Conv(8), ResidualConv(8, kernel=5), Conv(7), ResidualConv(12, stride=2),
     Readout(3)],
    T=2, tau=0.875,
)
CODED = Network(
    "coded", Shape(2, 6, 4),
    [Pixels(3), Conv(5), ResidualConv(9, stride=2), ResidualConv(9), Readout(3)], T=3,
)
#: Odd maps of 7 x 9, 4 x 5 and 2 x 3; to fewer channels and to more; one after the other.
PROJECTED = Network(
    "projected", Shape(2, 7, 9),
    [Stem(5), ResidualConv(3, projection=True), ResidualConv(9, stride=2, projection=True),
     ResidualConv(9), ResidualConv(6, kernel=1, stride=2, projection=True), Readout(3)],
    T=4,
)
PROJECTIONS = (1, 2, 4)
NETWORKS = {network.name: network for network in (NETWORK, LATER, CODED, PROJECTED)}
#: Of random networks that are at work in every layer.
SEED = 5

#: Words of 4 channels in groups of one: 4 for a pixel and tile.
ENGINE = Engine(
    pe=4, simd=8, lanes=4, weight_depth=512, spike_depth=256, channel_depth=128, mean_depth=256,
    stream_depth=192,
)
#: Two of four passes, for T = 4; a tile of 8 channels leaves in 4 groups of two.
PASSES = replace(ENGINE, pe=8, simd=32, lanes=2, units=2, passes=4, stream_depth=384)
ENGINES = {"one": ENGINE, "passes": PASSES}


def remade(image, index, **changes):
    """``image`` with the numbers of a projection changed."""
    return changed(image, index, projection=replace(image.layers[index].projection, **changes))

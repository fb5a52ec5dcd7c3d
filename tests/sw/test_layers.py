"""Layer and network descriptions: shapes, counts, what is refused, and the way to JSON and back."""

import json

import pytest

from sw.layers import LEAKS, Conv, LayerError, Network, Readout, Shape, Stem
from sw.networks import BUILTIN

NETWORK = Network(
    "tiny", Shape(3, 9, 8),
    [Stem(4, kernel=5, stride=2), Conv(6, pool=2), Conv(5, kernel=1, stride=2), Readout(10)],
    T=3, tau=0.75, neuron="vanilla",
)


@pytest.mark.parametrize("make", [Stem, Conv])
@pytest.mark.parametrize("changes, message", [
    (dict(kernel=0), "kernel must be 1 to 8, got 0"),
    (dict(kernel=9), "kernel must be 1 to 8, got 9"),
    (dict(kernel=8, padding=4), "padding must be 0 to 3, got 4"),
    (dict(stride=3), "stride must be one of \\(1, 2\\), got 3"),
    (dict(pool=3), "pool must be one of \\(1, 2\\), got 3"),
    (dict(padding=2), "padding must be 0 to 1, got 2"),
    (dict(padding=-1), "padding must be 0 to 1, got -1"),
    (dict(channels=0), "channels must be positive, got 0"),
])
def test_impossible_layers_are_refused(make, changes, message):
    with pytest.raises(LayerError, match=message):
        make(**{"channels": 4, **changes})


@pytest.mark.parametrize("changes, message", [
    (dict(neuron="lif"), "tiny: neuron must be one of"),
    (dict(T=0), "tiny: T must be 1 to 16, got 0"),
    (dict(T=17), "tiny: T must be 1 to 16, got 17"),
    (dict(T=2.0), "tiny: T must be 1 to 16, got 2.0"),
    (dict(name="a/b"), "name must be a word fit for a file name, got 'a/b'"),
    (dict(v_threshold=0.0), "tiny: v_threshold must be a positive number, got 0.0"),
    (dict(beta=float("nan")), "tiny: beta must be a positive number, got nan"),
    (dict(layers=[Stem(3.0), Readout(2)]), "tiny: layer 0 channels must be a whole number"),
    (dict(layers=[Stem(3), Readout(0)]), "tiny: layer 1 channels must be a whole number"),
    (dict(tau=0.6), "tiny: tau must be one of"),
    (dict(layers=[Conv(3), Readout(2)]), "tiny: layers must be one Stem"),
    (dict(layers=[Stem(3), Conv(3)]), "tiny: layers must be one Stem"),
    (dict(layers=[Stem(3), Readout(2), Readout(2)]), "tiny: layers must be one Stem"),
    (dict(layers=[]), "tiny: layers must be one Stem"),
    (dict(layers=[Stem(3, pool=2), Conv(3, pool=2), Conv(3, pool=2), Conv(3, pool=2), Readout(2)]),
     "tiny: layer 4 has an input of 0 x 0: too many strides or pools before it"),
])
def test_impossible_networks_are_refused(changes, message):
    with pytest.raises(LayerError, match=message) as raised:
        NETWORK.replace(**changes)
    assert "\n" not in str(raised.value)


def test_shapes_follow_kernels_strides_and_pools():
    assert NETWORK.shapes == [
        Shape(3, 9, 8), Shape(4, 5, 4), Shape(6, 2, 2), Shape(5, 1, 1), Shape(10, 1, 1)
    ]
    assert Stem(4, kernel=5, padding=0).conv_shape(Shape(1, 9, 8)) == Shape(4, 5, 4)


def test_padding_is_half_the_kernel_by_default():
    assert [Conv(1, kernel=kernel).padding for kernel in (1, 3, 5)] == [0, 1, 2]


def test_macs_count_every_tap_and_the_stem_once():
    stem = 4 * 5 * 4 * 25 * 3
    # Of the 5 x 4 map, pooling keeps 4 x 4: the fifth row is not computed.
    conv, one, readout = 6 * 4 * 4 * 9 * 4, 5 * 1 * 1 * 6, 10 * 5
    layers, shapes = NETWORK.layers, NETWORK.shapes
    assert [la.macs(sh) for la, sh in zip(layers, shapes, strict=False)] == [
        stem, conv, one, readout
    ]
    assert NETWORK.macs_per_frame() == stem + 3 * (conv + one + readout)
    assert [layer.fan_in(sh) for layer, sh in zip(layers, shapes, strict=False)] == [75, 36, 6, 5]


@pytest.mark.parametrize("tau", LEAKS)
def test_leaks_are_powers_of_two(tau):
    assert 1 - 2.0 ** -NETWORK.replace(tau=tau).leak_shift == tau


def test_names():
    assert [NETWORK.layer_name(i) for i in range(4)] == ["stem0", "conv1", "conv2", "readout3"]


@pytest.mark.parametrize("network", [NETWORK, *(make() for make in BUILTIN.values())],
                         ids=lambda network: network.name)
def test_round_trip_through_json(network):
    again = Network.from_dict(json.loads(json.dumps(network.to_dict())))
    assert again == network
    assert again != network.replace(T=network.T % 16 + 1)


@pytest.mark.parametrize("changes, message", [
    (dict(colour="red"), "unknown network fields: colour"),
    (dict(layers=[{"kind": "lstm"}]), "not a network description"),
    (dict(layers=[{"channels": 3}]), "not a network description"),
    (dict(layers=[{"kind": "stem", "channels": 3, "size": 1}]), "not a network description"),
    (dict(layers=3), "not a network description"),
    (dict(input={"channels": 3}), "not a network description"),
])
def test_other_dictionaries_are_refused(changes, message):
    with pytest.raises(LayerError, match=message):
        Network.from_dict({**NETWORK.to_dict(), **changes})


def test_missing_fields_are_refused():
    data = NETWORK.to_dict()
    del data["layers"]
    with pytest.raises(LayerError, match="not a network description"):
        Network.from_dict(data)

"""Export a checkpoint as a network image: signs, batch norm and AGMM become integers.

X = a * P + b of a channel (a: batch norm gain times weight scale, b: batch norm shift) is divided
by a, which turns batch norm into a bias b / a and a threshold V_th / a. A negative a flips the
channel's weights first, so that every gain is positive.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sw import data, formats
from sw.bounds import (
    ExportError,
    LayerBounds,
    bounds,
    check,
    current_range,
    gain_range,
    mean_range,
    membrane_range,
    position_table,
    sum_range,
)
from sw.checkpoint import CheckpointError, load_model
from sw.image import (
    MEAN_SHIFTS,
    Agmm,
    ImageError,
    LayerImage,
    NetworkImage,
    Projection,
    save,
)
from sw.layers import EXPORTED, Conv, Events, Pixels, Readout, ResidualConv, Stem, projects
from sw.modules import fold_norm, to_array

__all__ = [
    "ExportError", "LayerBounds", "bounds", "calibrate", "export", "load_calibration", "main",
    "provenance",
]

#: Training images that --gain frozen averages the gains over.
CALIBRATION_IMAGES = 2000

#: ``>> STEM_SHIFT`` takes away 0 to 63/64 of a unit, so much on average: the bias gives it back.
ROUNDING = (1 - 2.0**-formats.STEM_SHIFT) / 2

#: Largest A_c, tried in turn until the AGMM position table fits its entries.
PEAKS = (255, 127, 63, 31, 15)

EPILOG = """examples:
  python sw/export.py runs/digits-agmm-T4-s0/checkpoint.safetensors -o models/mine.bsnn
  python sw/export.py CHECKPOINT -o frozen.bsnn --gain frozen    constant AGMM gains

Next steps: python -m sw.golden --model MODEL.bsnn --data digits, then make sim MODEL=MODEL.bsnn"""


def export(model, network, info=None, gain="exact", calibration_images=None):
    """The NetworkImage of a SpikingNetwork in eval mode.

    info: provenance to keep in the image, JSON-able. gain: ``exact`` computes the AGMM gain for
    every sample and step, ``frozen`` replaces it by its mean over ``calibration_images`` (uint8
    ``[N, *network.frame_shape]``); a network without AGMM ignores both. Raises ExportError, naming
    layer and channel, where a format of ``sw.formats`` cannot hold the network.
    """
    if network.trained_only:
        raise ExportError(
            f"{network.name}: the hardware does not have {', '.join(network.trained_only)}"
            + ("" if network.neuron in EXPORTED else ": train with --neuron agmm or vanilla")
        )
    if gain not in ("exact", "frozen"):
        raise ExportError(f"gain must be exact or frozen, got {gain!r}")
    frozen = None
    if gain == "frozen" and network.uses_agmm:
        if calibration_images is None or not len(calibration_images):
            raise ExportError("frozen gains need calibration images")
        frozen = calibrate(model, calibration_images)
    fold = {
        Events: _fold_coded, Pixels: _fold_coded, Stem: _fold_stem, Conv: _fold_conv,
        ResidualConv: _fold_conv, Readout: _fold_readout,
    }
    plain = network.plain
    layers = tuple(
        fold[type(layer)](plain, index, model.layers[index], frozen)
        for index, layer in enumerate(plain.layers)
    )
    image = NetworkImage(plain, layers, dict(info or {}))
    check(image)
    return image


def load_calibration(checkpoint, network, info, root=None):
    """Training images of the dataset that a checkpoint was trained on, to freeze its gains with.

    info: as ``load_model`` gives it. Raises ExportError, DataError.
    """
    name = provenance(info)["data"]
    if name is None:
        raise ExportError(f"{checkpoint} names no dataset to calibrate frozen gains with")
    images, _ = data.load(name, "train", root, network.T)
    return images[:CALIBRATION_IMAGES]


@torch.no_grad()
def calibrate(model, images, batch=250):
    """Mean AGMM gain of every layer that has one over ``images``: index -> float64 ``[T]``."""
    sums, expected = {}, model.network.frame_shape
    if images.shape[1:] != expected:
        raise ExportError(
            f"{model.network.name} takes frames of {expected}, those to calibrate with are"
            f" {tuple(images.shape[1:])}"
        )

    def add(index):
        def hook(module, arguments):
            gain = module.gain(arguments[0]).double().flatten(1).sum(1).cpu().numpy()
            sums[index] = sums.get(index, 0) + gain
        return hook

    hooks = [
        layer.agmm.register_forward_pre_hook(add(index))
        for index, layer in enumerate(model.layers) if getattr(layer, "agmm", None) is not None
    ]
    try:
        for chunk in tqdm(images.split(batch), "calibrate", leave=False, disable=None):
            model(chunk)
    finally:
        for hook in hooks:
            hook.remove()
    return {index: total / len(images) for index, total in sums.items()}


def _finite(name, what, values):
    """ExportError naming the first channel of ``values`` that is not finite."""
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
    if bad.any():
        raise ExportError(f"{name} channel {int(bad.argmax())}: {what} is not finite")
    return values


def _fold_norm(name, norm, unit):
    """Gain a and shift b of X = a * sum + b, float64 ``[C]``, where one of the sum is ``unit``."""
    gain, shift = fold_norm(norm)
    return _finite(name, "the batch norm gain", gain * unit), _finite(
        name, "the batch norm shift", shift
    )


def _fold_neuron(network, index, weights, unit, shift, rounding, gains):
    """Bias, threshold, slope, int64 ``[C]``, of a layer whose current has the real value ``unit``.

    With a stream there is no threshold, else no slope. rounding: mean of what the hardware's
    rounding takes from a current, in units. gains: range of the gain at every step.

    A channel that no input can make fire gets the nearest bias that needs no wider currents or
    thresholds, and a threshold just out of reach; one that no input can keep from firing in every
    step gets a threshold of 1 and just enough bias for it. Their spikes stay the same.
    """
    layer, v_threshold = network.layers[index], network.v_threshold
    if network.is_streamed(index):
        scale = formats.STREAM_THRESHOLD / v_threshold
        return (
            _whole((shift + rounding * unit) * scale), None,
            _whole(unit * scale * 2**formats.SLOPE_FRACTION),
        )
    low, high = sum_range(layer, weights, network.T)
    # A gain of (nearly) 0 makes a channel constant: anything tiny stands for it.
    unit = np.maximum(unit, v_threshold * 2.0**-32)
    bias = _whole(shift / unit + rounding)
    threshold = np.ceil(v_threshold / unit).astype(np.int64)

    def reach(bias):
        currents = current_range(layer, low, high, bias)
        return membrane_range(*currents, gains, network.leak_shift)[1]

    silent = reach(bias) < threshold
    least, most = current_range(layer, low, high, np.zeros_like(bias))
    bias = np.where(silent, np.clip(bias, -most, -((least + most) >> 1)), bias)
    while (wide := silent & (reach(bias) + 1 >= 1 << formats.THRESHOLD_BITS)).any():
        # At the end of this is a current that is never positive.
        bias = np.where(wide, (bias - most) // 2, bias)
    threshold = np.where(silent, reach(bias) + 1, threshold)

    weakest = min(gain for gain, _ in gains)
    if weakest > 0:
        # A spike leaves a membrane of 0: then every step begins like the first.
        driven = formats.apply_gain(current_range(layer, low, high, bias)[0], weakest)
        always = driven >= threshold
        # The gain rounds halves up: half a unit is enough for a drive of 1.
        enough = -(-formats.GAIN_ONE // 2 // weakest) - least
        bias = np.where(always, np.minimum(bias, enough), bias)
        threshold = np.where(always, 1, threshold)
    return bias, threshold, None


def _whole(values):
    """The nearest integers, far from where int64 ends."""
    return np.rint(np.clip(values, -(2.0**44), 2.0**44)).astype(np.int64)


def _fold_coded(*_):
    return LayerImage(*[None] * 8)


def _fold_bytes(name, what, module, one):
    """Weights, gain and shift of an 8-bit convolution and its batch norm; the gain is positive.

    what: its weights, in words. one: the input that the float network sees as 1.
    """
    _finite(name, what, to_array(module.conv.weight))
    weights = module.conv.integers.cpu().numpy()
    gain, shift = _fold_norm(name, module.norm, to_array(module.conv.scale) / one)
    return np.where(gain[:, None, None, None] < 0, -weights, weights), np.abs(gain), shift


def _fold_stem(network, index, module, _):
    # The float network sees pixels of 0 to 1.
    weights, gain, shift = _fold_bytes(network.layer_name(index), "a weight", module, 255)
    constant = np.full(network.T, formats.GAIN_ONE, np.int64)
    bias, threshold, slope = _fold_neuron(
        network, index, weights, gain * 2**formats.STEM_SHIFT, shift, ROUNDING,
        gain_range(constant, None),
    )
    return LayerImage(
        weights, bias, threshold, constant, None, np.float32(gain), np.float32(shift), None, slope
    )


def _fold_conv(network, index, module, frozen):
    name = network.layer_name(index)
    _finite(name, "a weight", to_array(module.conv.weight))
    # A kernel over averages of ``side`` x ``side`` is a larger one over all that they are of.
    side = network.layers[index].kernel // module.conv.kernel_size[0]
    gain, shift = _fold_norm(name, module.norm, to_array(module.conv.gamma) / side**2)
    weights = module.conv.signs.cpu().numpy() ^ (gain < 0)[:, None, None, None]
    weights = weights.repeat(side, axis=2).repeat(side, axis=3)
    gain = np.abs(gain)
    alpha = agmm = constant = None
    if not network.has_agmm(index):
        constant = np.full(network.T, formats.GAIN_ONE, np.int64)
    else:
        alpha = np.float32(to_array(module.agmm.alpha))
        if not np.isfinite(alpha).all():
            raise ExportError(f"{name}: alpha is not finite")
        if frozen is not None:
            constant = np.rint(formats.GAIN_ONE * frozen[index]).astype(np.int64)
        else:
            layer, shape = network.layers[index], network.shapes[index]
            agmm = _fold_agmm(layer, shape, weights, gain, shift, alpha.astype(np.float64))
    bias, threshold, slope = _fold_neuron(
        network, index, weights, gain * 2.0**-formats.FRACTION, shift, 0.0,
        gain_range(constant, agmm),
    )
    projection = None
    if projects(network.layers[index]):
        projection = _fold_projection(name, module.shortcut, network.v_threshold)
    return LayerImage(
        weights, bias, threshold, constant, agmm, np.float32(gain), np.float32(shift), alpha, slope,
        projection,
    )


def _fold_projection(name, shortcut, v_threshold):
    """Integers of a shortcut's convolution and batch norm: of stream to stream."""
    weights, gain, shift = _fold_bytes(name, "a weight of the shortcut", shortcut, 1)
    unit = gain * 2**formats.STEM_SHIFT
    bias = shift * formats.STREAM_THRESHOLD / v_threshold + ROUNDING * unit
    return Projection(
        weights[..., 0, 0].astype(np.int64), _whole(bias), _whole(unit * 2**formats.SLOPE_FRACTION),
        np.float32(gain), np.float32(shift),
    )


def _fold_agmm(layer, shape, weights, gain, shift, alpha):
    """Integers of E[t] = alpha[t] * mean over C, H, W of X[t] (eq. 11)."""
    out = layer.conv_shape(shape)
    for peak in PEAKS:
        unit = max(gain.max() / peak, 1e-30)
        scales = np.rint(gain / unit).astype(np.int64)
        table = position_table(layer, shape, weights, scales)
        if max(-table.min(), table.max()) < 1 << (formats.TABLE_BITS - 1):
            break
    # Every output adds its batch norm shift: exactly that, not its rounded bias, is the constant.
    offset = round(min(max(out.height * out.width * shift.sum() / unit, -(2.0**60)), 2.0**60))
    ends = [offset + end for end in mean_range(layer, shape, table)]
    mean_shift = next(
        (s for s in MEAN_SHIFTS if all(formats.fits_signed(end >> s, 16) for end in ends)),
        MEAN_SHIFTS[-1],
    )
    scale = formats.INDEX_STEPS * unit / out.size * 2.0 ** (mean_shift + formats.FACTOR_FRACTION)
    factor = np.rint(np.clip(alpha * scale, -(2.0**60), 2.0**60))
    return Agmm(
        scales, table, offset, mean_shift, factor.astype(np.int64),
        np.array(formats.sigmoid_table()),
    )


def _fold_readout(network, index, module, _):
    name = network.layer_name(index)
    _finite(name, "a weight", to_array(module.linear.weight))
    shift = _finite(name, "the bias", to_array(module.linear.bias))
    # A weight for an average is that of all that it is of.
    weights, count = module.for_pixels(module.linear.integers, network.shapes[index])
    scale = to_array(module.linear.scale) / count
    if (scale != scale[0]).any():
        raise ExportError(f"{name}: all classes must share one weight scale")
    # The logits are means over T, the integers sums.
    bias = np.rint(np.clip(network.T * shift / scale, -(2.0**60), 2.0**60)).astype(np.int64)
    return LayerImage(
        weights.cpu().numpy(), bias, None, None, None,
        np.float32(scale), np.float32(shift), None,
    )


def _option(name, value):
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option} {value}"


def _command(args):
    options = [
        _option(name, value) for name, value in args.items()
        if value is not None and name != "data_root"
    ]
    return " ".join(["python sw/train.py", *options])


def provenance(info):
    """What an image keeps of a checkpoint's training: dataset, accuracy, seed, command, machine.

    Of a run resumed with other options also the commands and epochs before.
    """
    args, history = info.get("args") or {}, info.get("history") or [{}]
    earlier = [
        {"epochs": part["epochs"], "command": _command(part["args"])}
        for part in info.get("earlier", [])
    ]
    return {
        "data": args.get("data"),
        "float_accuracy": history[-1].get("test_accuracy"),
        "seed": args.get("seed"),
        "epochs": len(history),
        "command": _command(args),
        **({"machine": info["machine"]} if "machine" in info else {}),
        **({"earlier": earlier} if earlier else {}),
    }


def _run(args):
    model, network, info = load_model(args.checkpoint)
    images, kept = None, provenance(info)
    if args.gain == "frozen" and network.uses_agmm:
        images = load_calibration(args.checkpoint, network, info, args.data_root)
        kept["calibration_images"] = len(images)
    image = export(model, network, kept, args.gain, images)
    path = args.output or Path(args.checkpoint).with_suffix(".bsnn")
    save(image, path)
    return {
        "model": str(path), "network": network.name, "T": network.T, "gain": image.gain_mode,
        "bytes": Path(path).stat().st_size, "checksum": image.checksum,
        "layers": [
            {
                "name": bound.name, "current_bits": bound.current_bits,
                "membrane_bits": bound.membrane_bits, "threshold_bits": bound.threshold_bits,
                "accumulator_bits": bound.accumulator_bits, "mean_bits": bound.mean_bits,
            }
            for bound in bounds(image)[image.network.coded :]
        ],
    }


def main(argv=None):
    """Command line. Returns the exit status: 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="export.py", description=__doc__.split("\n\n")[0], epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="what python sw/train.py wrote")
    add("-o", "--output", metavar="MODEL.bsnn", help="default: next to the checkpoint")
    add("--gain", choices=("exact", "frozen"), default="exact", help="AGMM gain: computed for each"
        " sample and step, or its mean over 2,000 training images (default: exact)")
    add("--data-root", metavar="DIR", help="folder of the dataset's files, for --gain frozen")
    add("--json", action="store_true", help="print one line of JSON instead of a table")
    args = parser.parse_args(argv)
    try:
        result = _run(args)
    except (CheckpointError, data.DataError, ExportError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(result))
        return 0
    print(f"{result['model']}: {result['bytes']} bytes, gain {result['gain']}, bits needed:")
    for row in result["layers"]:
        print(f"  {row.pop('name'):10}", *(f"{k[:-5]} {v:2}" for k, v in row.items() if v))
    return 0


if __name__ == "__main__":
    sys.exit(main())

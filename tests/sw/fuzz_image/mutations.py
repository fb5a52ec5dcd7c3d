"""What is done to a network image, at random.

Of its tensors, lists [name, dtype, shape, bytes], of its headers, of their text, and of its bytes.
"""

import json
import re
import struct

import numpy as np

__all__ = ["MUTATIONS", "TYPES", "WEIGHTS", "text_of"]

TYPES = {
    "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "F32": "<f4",
}
_ALL_TYPES = (
    *TYPES, "BOOL", "F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F16", "BF16",
    "F64", "I64", "U64", "C64", "U128", "f32", "", 7, None,
)
_FLOATS = (
    0.0, -0.0, 1.0, -1.0, 1e-45, 3.4e38, -3.4e38, float("nan"), float("inf"), float("-inf"),
)

#: Stand for text that no JSON writer writes.
_RAW = {
    "@nan": "NaN", "@infinite": "-Infinity", "@large": "1e99999", "@digits": "1" + "0" * 5000,
    "@deep": "[" * 5000 + "]" * 5000, "@nested": '{"a":' * 300 + "1" + "}" * 300,
    "@edge": "[" * 970 + "]" * 970, "@comment": "/* 1 */ 1", "@bare": "x",
}
_STRANGE = (
    None, True, False, 0, 1, 2, 3, -1, 255, 256, 4096, 4097, 65536, 2**31, 2**32, 2**63, 2**64,
    10**9, 10**30, 10**400, 0.0, -0.0, 0.5, 1.0, 1.5, 1e-300, 1e300, "", "x", "1", "a b",
    "two\nlines", "\x1b[2Jm", "\x00", "\ud800", "\u00e9\u2028", "/", "..", "y" * 300, [], {}, [[]],
    {"a": 1}, [0] * 50, [["name", "x"]], *_RAW,
)


def _strange(rng):
    if rng.random() < 0.1:
        depth = rng.randrange(880, 1010)
        return f"@{depth}"
    return rng.choice(_STRANGE)


def text_of(value):
    """JSON, with the raw text of _RAW where its names stand, and "@<n>" for n nested lists."""
    text = json.dumps(value, sort_keys=True)
    for name, raw in _RAW.items():
        text = text.replace(f'"{name}"', raw)
    return re.sub(
        r'"@(\d+)"', lambda match: "[" * int(match[1]) + "]" * int(match[1]), text
    )


def _places(value, found):
    """Every (container, key) inside a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            _places(inner, found)
    return found


def _mutate_json(rng, value):
    """Changes a value, drops or doubles an entry or adds one, somewhere in a dict or list."""
    container, key = rng.choice(_places(value, []))
    match rng.randrange(6):
        case 0:
            del container[key]
        case 1 if isinstance(container, list):
            container.insert(key, json.loads(json.dumps(rng.choice(container))))
        case 1:
            container[rng.choice(("extra", "kind", "a\nb", "", "T", "\x1b[0m"))] = _strange(rng)
        case 2 if isinstance(container[key], int):
            container[key] += rng.choice((-1, 1))
        case 3:
            other, place = rng.choice(_places(value, []))
            container[key] = json.loads(json.dumps(other[place]))
        case _:
            container[key] = _strange(rng)


def _element(rng, dtype):
    """Bytes of one odd element."""
    size = np.dtype(TYPES[dtype]).itemsize
    if dtype == "F32" and rng.random() < 0.7:
        return struct.pack("<f", rng.choice(_FLOATS))
    return rng.choice((
        bytes(size), b"\xff" * size, b"\xff" * (size - 1) + b"\x7f", bytes(size - 1) + b"\x80",
        b"\x01" + bytes(size - 1), rng.randbytes(size),
    ))


def change_values(rng, tensors):
    tensor = rng.choice(tensors)
    _, dtype, _, data = tensor
    size = np.dtype(TYPES[dtype]).itemsize
    octets, place = bytearray(data), size * rng.randrange(len(data) // size)
    match rng.randrange(5):
        case 0:
            for _ in range(rng.choice((1, 2, 8))):
                octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
        case 1:
            octets[place : place + size] = _element(rng, dtype)
        case 2:
            octets = _element(rng, dtype) * (len(octets) // size)
        case 3:
            values = np.frombuffer(data, TYPES[dtype]).copy()
            rng.shuffle(values)
            octets = values.tobytes()
        case 4:
            octets[place] = (octets[place] + rng.choice((1, 255))) % 256
    tensor[3] = bytes(octets)


def change_tensors(rng, tensors):
    tensor, other = rng.choice(tensors), rng.choice(tensors)
    match rng.randrange(7):
        case 0:
            same = [one for one in tensors if one[1:3] == tensor[1:3]]
            other = rng.choice(same)
            tensor[3], other[3] = other[3], tensor[3]
        case 1:
            tensor[0], other[0] = other[0], tensor[0]
        case 2 if len(tensors) > 1:
            tensors.remove(tensor)
        case 3:
            tensor[0] = rng.choice((
                "", "sigmoid", "layers.0.bias", "layers.00.bias", "layers.9.agmm.table", "x\ny",
                "layers.1.agmm.weights", "layers.-1.bias", "l\u00e4yers", "__metadata__", "\x00",
                tensor[0].upper(), f"{tensor[0]}.", f" {tensor[0]}",
            ))
        case 4:
            tensors.append([f"{tensor[0]}{rng.choice(('2', '.x', ' '))}", *other[1:]])
        case 5:
            tensor[2] = rng.choice((
                [*tensor[2], 1], [1, *tensor[2]], tensor[2][::-1], [len(tensor[3])], [],
                tensor[2][1:], [0, *tensor[2]],
            ))
        case 6:
            tensor[1] = rng.choice(_ALL_TYPES)


#: Values of a network's fields that are, or could be taken for, legal.
_FIELDS = {
    "T": (1, 2, 3, 4, 16, 17, True, 2.0), "tau": (0, 0.0, 0.5, 0.75, 0.875, 1, False, "0.5"),
    "v_threshold": (0.5, 1, 2.0, True, 1e-30, 1e30), "beta": (0.5, 1, 2.0, True),
    "neuron": ("agmm", "vanilla", "fp", "half", "scalar"), "name": ("x", "a b", "\u00e9", "-x"),
    "channels": (1, 2, 3, 4096), "height": (1, 4, 5, 4096), "width": (1, 4, 5, 4096),
    "kernel": (1, 2, 3, 4, 8, True), "stride": (1, 2, True), "padding": (0, 1, 2, None, False),
    "pool": (1, 2, True), "levels": (1, 2, 3, 15), "projection": (True, False, 0, 1),
    "window": (0, 1, 2), "heads": (1, 0), "expansion": (1, 0),
    "kind": (
        "events", "pixels", "stem", "eventstem", "pooledstem", "conv", "averagedconv",
        "residualconv", "transitionconv", "transformer", "readout", "averagedreadout",
    ),
}


def change_description(rng, header):
    network = header["network"]
    stack = network["layers"]
    match rng.randrange(8):
        case 0:
            stack.insert(rng.randrange(len(stack) + 1), dict(rng.choice(stack)))
        case 1 if len(stack) > 1:
            stack.remove(rng.choice(stack))
        case 2:
            rng.shuffle(stack)
        case 3 if rng.random() < 0.2:
            stack[1:1] = [dict(stack[1])] * rng.choice((10, 300, 20_000))
        case _:
            owner = rng.choice((network, network, network["input"], *stack))
            key = rng.choice([*sorted({*owner} & {*_FIELDS}), rng.choice(list(_FIELDS))])
            owner[key] = rng.choice(_FIELDS[key])


def change_text(rng, text):
    """Of a JSON object: an entry twice, an odd value, white space, a character more or less."""
    entries = list(re.finditer(r'("[^"\\]*"): ', text))
    place = rng.randrange(len(text))
    match rng.randrange(5):
        case 0 if entries:
            entry = rng.choice(entries)
            twice = f"{entry[1]}: {text_of(_strange(rng))}, "
            text = text[: entry.start()] + twice + text[entry.start() :]
        case 1 if entries:
            end = rng.choice(entries).end()
            text = text[:end] + text_of(_strange(rng)) + text[text.find(",", end) :]
        case 2:
            text = rng.choice((" ", "\n", "\ufeff", "[", "")) + text + rng.choice((" ", "x", "]"))
        case 3:
            text = text[:place] + text[place + rng.choice((1, 1, 9)) :]
        case _:
            text = text[:place] + rng.choice('"\\{}[],:0e-\n\x00\u00e9') + text[place:]
    return text


def change_offsets(rng, outer):
    """The header of safetensors: types, shapes and places of the tensors, the metadata."""
    names = [name for name in outer if name != "__metadata__"]
    entry, other = outer[rng.choice(names)], outer[rng.choice(names)]
    match rng.randrange(8):
        case 0:
            entry["dtype"] = rng.choice(_ALL_TYPES)
        case 1:
            entry["shape"] = rng.choice((
                [2**63], [2**64], [-1], [2**32, 2**32], [0, 2**63 - 1], [1] * 70, [10**30], [1.0],
                "3", None, [], [1, *entry["shape"]],
            ))
        case 2:
            entry["data_offsets"] = list(other["data_offsets"])
        case 3:
            start, end = entry["data_offsets"]
            entry["data_offsets"] = rng.choice((
                [start, end + 1], [start + 1, end], [end, start], [start + 2**40, end + 2**40],
                [start, 2**64 - 1], [-1, end], [start], [start, end, end], None, [0, 0],
            ))
        case 4:
            outer["__metadata__"] = rng.choice((
                None, [], {}, {"agamemnon": 1}, {"agamemnon": None}, {"Agamemnon": "{}"},
                {**outer["__metadata__"], "format": "pt"}, {**outer["__metadata__"], "x": 1},
            ))
        case 5:
            entry["data_offsets"], other["data_offsets"] = (
                other["data_offsets"], entry["data_offsets"]
            )
        case _:
            _mutate_json(rng, outer)


def change_bits(rng, raw):
    octets = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 10, 100))):
        octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
    return bytes(octets)


def change_length(rng, raw):
    if rng.random() < 0.6:
        return raw[: rng.choice((rng.randrange(len(raw)), len(raw) - 1, rng.randrange(16)))]
    return raw + rng.choice((b"\0", b" ", rng.randbytes(rng.randrange(1, 200)), raw))


def change_pieces(rng, raw):
    start, other, count = rng.randrange(len(raw)), rng.randrange(len(raw)), rng.randrange(1, 65)
    piece = raw[other : other + count]
    match rng.randrange(5):
        case 0:
            return raw[:start] + piece + raw[start + len(piece) :]
        case 1:
            return raw[:start] + piece + raw[start:]
        case 2:
            return raw[:start] + raw[start + count :]
        case 3:
            filler = rng.choice((b"\0", b"\xff", b" ")) * count
            return raw[:start] + filler + raw[start + count :]
    length = rng.choice((
        0, 1, 2**63, 2**64 - 1, 10**8, 10**8 + 1, len(raw), max(len(raw) - 8, 0),
        rng.randrange(2 * len(raw)),
    ))
    return struct.pack("<Q", length) + raw[8:]


#: Kind of mutation -> what it changes, and how.
MUTATIONS = {
    "values of a tensor": ("tensors", change_values),
    "set of tensors": ("tensors", change_tensors),
    "description of the network": ("inner", change_description),
    "header": ("inner", _mutate_json),
    "text of the header": ("inner text", change_text),
    "header of safetensors": ("outer", change_offsets),
    "text of the header of safetensors": ("outer text", change_text),
    "bits": ("raw", change_bits),
    "length": ("raw", change_length),
    "pieces": ("raw", change_pieces),
}
#: How often each is drawn.
WEIGHTS = (20, 12, 16, 12, 10, 14, 4, 5, 5, 2)

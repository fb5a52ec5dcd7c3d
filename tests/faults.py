"""What can happen to bytes on a line: functions of a random.Random and a bytearray, not empty."""

__all__ = ["FAULTS"]


def _damage(rng, octets):
    octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)


def _lose(rng, octets):
    start = rng.randrange(len(octets))
    del octets[start : start + rng.choice([1, 1, 2, 5, 100])]


def _double(rng, octets):
    start = rng.randrange(len(octets))
    octets[start:start] = octets[start : start + rng.choice([1, 2, 20, 100])]


def _swap(rng, octets):
    start = rng.randrange(len(octets))
    size = rng.choice([1, 2, 8])
    octets[start : start + 2 * size] = (
        octets[start + size : start + 2 * size] + octets[start : start + size]
    )


def _insert(rng, octets):
    start = rng.randrange(len(octets) + 1)
    octets[start:start] = rng.randbytes(rng.choice([1, 2, 30]))


def _repeat(rng, octets):
    octets += bytes(octets)


FAULTS = {
    "damaged": _damage, "lost": _lose, "doubled": _double, "swapped": _swap,
    "inserted": _insert, "repeated": _repeat,
}

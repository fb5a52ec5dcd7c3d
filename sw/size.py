"""Model sizes that know a binary weight is one bit."""

from dataclasses import dataclass

from sw.model import binary_weights

__all__ = ["Size", "size_report"]


@dataclass(frozen=True)
class Size:
    """parameters: all trained numbers. binary: those of them that are 1-bit weights."""

    parameters: int
    binary: int

    @property
    def fp32_bytes(self):
        return 4 * self.parameters

    @property
    def packed_bytes(self):
        """One bit per binary weight, fp32 for the rest; a norm absorbs gamma (eq. 5): no bytes."""
        return 4 * (self.parameters - self.binary) + -(-self.binary // 8)

    def __str__(self):
        return (
            f"{self.parameters:,} parameters: {self.fp32_bytes / 1e6:.2f} MB in fp32,"
            f" {self.packed_bytes / 1e6:.2f} MB with {self.binary:,} of them in one bit each"
        )


def size_report(model):
    """The Size of any module that uses BinaryConv2d. 1 MB is 1e6 bytes."""
    return Size(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        binary=sum(layer.weight.numel() for layer in binary_weights(model)),
    )

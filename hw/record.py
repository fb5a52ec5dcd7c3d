"""The layer record as the hardware sees it: a struct with one member for each program field."""

from amaranth.lib import data

from sw.record import field_bits

__all__ = ["layer_layout"]


def layer_layout(engine):
    """Struct of all fields, each as wide as this engine needs it."""
    return data.StructLayout(field_bits(engine))

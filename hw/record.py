"""The layer record as the hardware sees it: a struct with one member for each program field."""

from amaranth.lib import data

from sw.record import field_bits

__all__ = ["layer_layout"]


def layer_layout(engine):
    """Struct of the fields, each as wide as this engine needs it.

    Without ``start``, which the walk keeps and moves.
    """
    return data.StructLayout({
        name: bits for name, bits in field_bits(engine).items() if name != "start"
    })

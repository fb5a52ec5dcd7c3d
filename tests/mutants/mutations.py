"""Single errors, put into the hardware and the golden model one at a time, that tests must notice.

Each is one that a tired engineer makes: the wrong side of a boundary, a carry dropped, a register
that is not reset, a cycle too early. ``python -m tests.mutants`` tries them.
"""

from tests.mutants.cores import CORES
from tests.mutants.line import LINE
from tests.mutants.memories import MEMORIES
from tests.mutants.model import MODEL
from tests.mutants.neurons import NEURONS

__all__ = ["MUTATIONS"]

MUTATIONS = [*CORES, *NEURONS, *MEMORIES, *LINE, *MODEL]

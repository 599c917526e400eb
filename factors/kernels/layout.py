"""Laying rows of a table out as tiles ``[B, T, LANES]``."""

from factors.kernels.compile import kernel
from factors.kernels.tile import LANES


@kernel
def scatter(values, rows, lanes, out):
    """Write ``values[i]`` to lane ``lanes[i]``, counted over all tiles, of row ``rows[i]``; all ``[n]``."""
    for i in range(len(values)):
        out[lanes[i] // LANES, rows[i], lanes[i] % LANES] = values[i]


@kernel
def mark(lanes, starts, stops, out):
    """Set the rows ``starts[i]`` to ``stops[i]`` of lane ``lanes[i]``."""
    for i in range(len(lanes)):
        for row in range(starts[i], stops[i]):
            out[lanes[i] // LANES, row, lanes[i] % LANES] = True

"""The tile and how windows run over it.

A tile is float64 ``[T, LANES]``: rows are bars, lanes are instruments, NaN is null. The number of lanes is a constant
and the state of a window is one flat array, ``LANES`` values a quantity, so that the compiler knows every distance in
it and works on a whole vector register at a time.

Sums use blocks of d rows: a window is the suffix of one block and the prefix of the next (van Herk 1992, for minima).
Nothing is ever subtracted from a running sum, so nothing drifts, and a value touches only the windows that hold it.
"""

from factors.kernels.compile import kernel

LANES = 64


@kernel
def at(state, i, quantities):
    """The state of row i where a state has so many quantities."""
    return state[i * quantities * LANES : (i + 1) * quantities * LANES]

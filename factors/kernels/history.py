"""How much history an instrument has, over one tile: ``[T, L]``."""

import numpy as np

from factors.kernels.compile import kernel


@kernel
def hide_unseasoned(values, bar, first_row, look_back):
    """Make null, in place, what has no bar or fewer than ``look_back`` rows since the first one; ``[T, L]``."""
    for t in range(len(values)):
        row, present = values[t], bar[t]
        for j in range(len(row)):
            if not present[j] or t - first_row[j] < look_back:
                row[j] = np.nan

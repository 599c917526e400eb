"""How every Numba kernel is compiled: cached on disk, without the interpreter lock, division by zero as in NumPy.

Floating-point contraction is allowed and nothing else of fast-math: ties and nulls need exact IEEE comparisons.
"""

from numba import njit

kernel = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})

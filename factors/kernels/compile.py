"""How every Numba kernel is compiled: cached on disk, without the interpreter lock, division by zero as in NumPy.

Floating-point contraction is allowed and nothing else of fast-math: ties and nulls need exact IEEE comparisons. A
``reduction`` may also add, and compare, in any order, so that it uses every lane of a vector register; its data hold no
null where it compares.
"""

from numba import njit

kernel = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
reduction = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})

"""How every Numba kernel is compiled: cached on disk, without the interpreter lock, division by zero as in NumPy.

Floating-point contraction is allowed and nothing else of fast-math: ties and nulls need exact IEEE comparisons. A
``reduction`` may also add in any order, so that it uses every lane of a vector register; the compiler may then reorder
differences too, so it is for sums of ranks, counts and magnitudes, in which nothing cancels.

Numba looks only at the file of a kernel to tell whether its machine code is current, not at the files of the kernels
that it calls; so the cache of each state of these files is a folder of its own.
"""

import hashlib
import os
from pathlib import Path

from numba import config, njit


def _cache_folder() -> Path:
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))).hexdigest()[:16]
    root = here / "__pycache__" if os.access(here, os.W_OK) else Path.home() / ".cache" / "alphaagent"
    return root / f"kernels-{digest}"


#: where machine code is kept, what the environment of another process that shall share it says
CACHE_FOLDER = os.environ.get("NUMBA_CACHE_DIR") or str(_cache_folder())
config.__dict__["CACHE_DIR"] = CACHE_FOLDER

kernel = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
reduction = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})

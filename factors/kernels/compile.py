"""How every Numba kernel is compiled: cached on disk, without the interpreter lock, division by zero as in NumPy.

Floating-point contraction is allowed and nothing else of fast-math: ties and nulls need exact IEEE comparisons. A
``reduction`` may also add in any order, so that it uses every lane of a vector register; the compiler may then reorder
differences too, so it is for sums of ranks, counts and magnitudes, in which nothing cancels.

Numba looks only at the file of a kernel to tell whether its machine code is current, not at the files of the kernels
that it calls; so the cache of each state of these files is a folder of its own.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from numba import config, njit


def _cache_folder() -> Path:
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))).hexdigest()[:16]
    beside = here / "__pycache__" / f"kernels-{digest}"
    if os.access(here, os.W_OK):
        return beside
    folder = _own_folder() / beside.name
    if beside.is_dir() and not folder.exists():  # Numba reads no machine code where it could not write any
        with tempfile.TemporaryDirectory(dir=folder.parent) as work, suppress(OSError):  # others may do so at once
            copy = Path(work) / "copy"
            for path in beside.glob("*/*"):
                target = copy / path.relative_to(beside)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)  # without its mode, which may forbid what Numba does to its folder
            copy.rename(folder)
    return folder


def _own_folder() -> Path:
    """A folder that this user alone can write to, as whoever writes there has their code run."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() fails where there is none
    for folder in (home / ".cache" / "alphaagent", Path(tempfile.gettempdir()) / f"alphaagent-{os.getuid()}"):
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
            if ours and os.access(folder, os.W_OK):
                return folder
    raise RuntimeError("no folder to keep compiled kernels in: set NUMBA_CACHE_DIR to one that is writable")


#: where machine code is kept, what the environment of another process that shall share it says
CACHE_FOLDER = os.environ.get("NUMBA_CACHE_DIR") or str(_cache_folder())
config.__dict__["CACHE_DIR"] = CACHE_FOLDER

kernel = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
reduction = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})

"""Machine code on disk is that of the sources beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import factors

PROGRAM = """
import numpy as np
from factors.kernels.cross_section import demean
out = np.empty((1, 1, 64))
demean(np.arange(64.0).reshape(1, 1, 64), np.zeros((1, 1, 64), np.int16), out, 0, 1)
print(out[0, 0, 0])
"""


def test_an_edited_callee_in_another_file_is_compiled_again(tmp_path):
    """Numba alone would go on with the caller's old code, in which the callee is inlined."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(factors.__file__).parent, tmp_path / "factors", ignore=ignore)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}

    def printed():
        command = [sys.executable, "-c", PROGRAM]
        return float(subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True).stdout)

    assert printed() == -31.5
    segment = tmp_path / "factors" / "kernels" / "segment.py"
    source = segment.read_text()
    formula = "return anchor + total(v, anchor) / count(v)"
    assert formula in source
    segment.write_text(source.replace(formula, "return anchor"))
    assert printed() == 0.0

"""Machine code on disk is that of the sources beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import factors

PROGRAM = """
import numpy as np
from factors.kernels.cross_section import demean
out = np.empty((1, 1, 64))
demean(np.arange(64.0).reshape(1, 1, 64), np.zeros((1, 1, 64), np.int16), out, 0, 1)
print(out[0, 0, 0])
"""


@pytest.mark.usefixtures("endurance")
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


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """A copy of the core that is compiled and cannot be written to."""
    root = tmp_path_factory.mktemp("core")
    shutil.copytree(Path(factors.__file__).parent, root / "factors", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, check=True, capture_output=True)
    for path in (*root.rglob("*"), root):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield root
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)


def powerless(core, home, temporary):
    """Run the program as somebody who may write to these two folders and not to the core."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), "NUMBA_DEBUG_CACHE": "1"}
    # Root may write everywhere unless it gives that up.
    prefix = () if os.getuid() else ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    command = [*prefix, sys.executable, "-B", "-c", PROGRAM]
    return subprocess.run(command, cwd=core, env=environment, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("place", ["home", "temporary"])
def test_a_core_that_cannot_be_written_to_goes_on_with_what_was_compiled(core, tmp_path, place):
    """In a home of its own, else among temporary files."""
    done = powerless(core, tmp_path if place == "home" else core, tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "-31.5")
    assert "data loaded from" in done.stdout
    assert "saved" not in done.stdout
    [built] = core.glob("factors/kernels/__pycache__/kernels-*")
    [used] = tmp_path.glob(".cache/alphaagent/*" if place == "home" else f"alphaagent-{os.getuid()}/*")
    assert {path.name for path in used.rglob("*")} == {path.name for path in built.rglob("*")}


def test_machine_code_of_others_is_not_trusted(core, tmp_path):
    planted = tmp_path / f"alphaagent-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    done = powerless(core, core, tmp_path)
    assert done.returncode == 1
    assert "set NUMBA_CACHE_DIR" in done.stderr
    assert list(planted.iterdir()) == []

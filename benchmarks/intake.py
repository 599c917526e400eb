"""A process of its own that imports a market, or reads one: ``python -m benchmarks.intake TASK ROOT [SOURCE]``.

``import`` and ``append`` take a source to storage, ``load`` takes the panel from storage to the evaluator. It answers
in one line of JSON. :func:`measured` starts one and watches its memory and what it spills to disk from outside.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.ours import MARKET, read_panel
from storage.ingest import import_market

LOADS: Final = 5
_WATCH: Final = 0.1  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process took.

    Attributes:
        seconds: from its first work to its last, its start left out.
        cpu_seconds: of all its threads.
        peak_bytes: most that it and its children held in memory, as seen from outside.
        spill_bytes: most that lay on disk for the time being, tables of the import and what memory did not hold.
        read_bytes: that it read from files, from the system's cache or not.
        written_bytes: that it wrote to files, spilled ones included.
        stages: seconds by stage.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    spill_bytes: int
    read_bytes: int
    written_bytes: int
    stages: dict[str, float]


def measured(task: str, root: Path, source: Path | None = None) -> Usage:
    """Let a process do a task.

    Raises:
        RuntimeError: it failed; the text is the end of what it said.
    """
    root.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.intake", task, str(root), *([str(source)] if source else [])]
    with (
        tempfile.TemporaryDirectory(dir=root, prefix="tmp-") as spill,
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 - the interpreter that runs this
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "TMPDIR": spill}
        ) as process,
    ):
        peak = spilled = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_peak, _tree(process.pid))))
            work = [path for name in ("spill", "staging") for path in root.glob(f"markets/*/.import/{name}")]
            spilled = max(spilled, sum(map(_bytes, [Path(spill), *work])))
            time.sleep(_WATCH)
        answer = process.stdout.read() if process.stdout else ""
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(errors.read()[-2000:])
    told = json.loads(answer)
    return Usage(**told | {"peak_bytes": max(peak, told["peak_bytes"]), "spill_bytes": spilled})


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text(encoding="ascii").split()
        except OSError:  # it has ended meanwhile
            continue
        for child in children:
            yield from _tree(int(child))


def _peak(pid: int | str) -> int:
    """Most bytes that a process has held: the system's own account, which forgets what was before its program."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


def _bytes(path: Path) -> int:
    """Bytes on disk of a file, or below a folder, of whose files some may go meanwhile."""
    size = 0
    with suppress(OSError):
        for each in (path, *path.rglob("*")):
            size += each.stat().st_blocks * 512
    return size


class _Stages:
    """How long each stage of an import took; what follows the last is ``check``: quality, and making it current."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._began = "read", time.perf_counter()

    def progress(self, stage: str, done: int, total: int) -> None:
        self._turn(stage)
        if stage == "write" and done == total:
            self._turn("check")

    def end(self) -> dict[str, float]:
        self._turn("")
        return self.seconds

    def _turn(self, stage: str) -> None:
        if stage != self._stage:
            now = time.perf_counter()
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._began
            self._stage, self._began = stage, now


def _work(task: str, root: Path, source: Path | None) -> tuple[float, dict[str, float]]:
    """Seconds that the task takes, and by stage."""
    if source is None:
        taken = []
        for _ in range(LOADS):
            began = time.perf_counter()
            read_panel(root)
            taken.append(time.perf_counter() - began)
        return sorted(taken)[LOADS // 2], {}
    began, stages = time.perf_counter(), _Stages()
    import_market(root, MARKET, source, holdout=False, append=task == "append", progress=stages.progress)
    return time.perf_counter() - began, stages.end()


def _account() -> dict[str, int]:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def main(arguments: Sequence[str]) -> None:
    """Do the task, and print what it took."""
    task, root, *source = arguments
    before, cpu = _account(), time.process_time()
    seconds, stages = _work(task, Path(root), Path(source[0]) if source else None)
    after = _account()
    told: dict[str, Any] = {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": _peak("self"),
        "read_bytes": after["rchar"] - before["rchar"],
        "written_bytes": after["wchar"] - before["wchar"],
        "stages": stages,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

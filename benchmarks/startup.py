"""Times of a fresh process, as JSON: ``python -m benchmarks.startup cold|load ROOT STARTED``.

``cold``: interpreter, imports, and the first candidate from text to metrics with kernels cached on disk; the load of
the market, which ``load`` measures, is taken out. STARTED is the parent's monotonic clock when it started this process.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.market import FIELDS
from benchmarks.ours import Ours, read_panel
from benchmarks.workload import workload


def main() -> None:
    """Print the seconds."""
    task, root, started = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    imported = time.monotonic()
    if task == "load":
        read_panel(root)
        seconds = time.monotonic() - imported
    else:
        engine = Ours(root)
        loaded = time.monotonic()
        engine.time([next(iter(workload(FIELDS).values()))])
        seconds = imported - started + time.monotonic() - loaded
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()

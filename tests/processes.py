"""What the system knows of processes."""

import time
from pathlib import Path


def status(pid):
    """The fields of a process' status by name; none where it is gone, or has ended and is not waited for yet."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    return {} if fields["State"].split()[0] in "ZX" else {name: value.strip() for name, value in fields.items()}


def workers(pid):
    """Ids of the worker processes that a process has started, as far as they are their own program yet."""
    children = (int(path.name) for path in Path("/proc").glob("[0-9]*") if status(path.name).get("PPid") == str(pid))
    return {child for child in children if b"app.worker" in content(child, "cmdline")}


def content(pid, name):
    """A file of a process; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def until(condition, seconds=60):
    """Wait until a condition holds; its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
    return found

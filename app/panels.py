"""The panel and labels of a snapshot, from the files beside it if some process has laid them out before."""

import hashlib
import shutil
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from factors.labels import Labels, forward_returns
from factors.mapping import FORMAT, read_mapping, write_mapping
from factors.panel import Panel
from factors.team import Team
from storage.markets import Snapshot


@lru_cache(maxsize=2)
def load_panel(snapshot: Snapshot, universe: str) -> tuple[Panel, Labels]:
    """A snapshot's in-sample panel and its labels; the two last used are kept mapped."""
    key = hashlib.sha256(f"{FORMAT}\0{snapshot.id}\0{universe}".encode()).hexdigest()[:16]
    folder = snapshot.path.parent / ".panels" / key
    with suppress(OSError, ValueError):
        return read_mapping(folder)
    team = Team()
    panel = Panel.from_cells(snapshot.cells(universe), snapshot.train_end, team)
    labels = forward_returns(panel, team=team)
    with suppress(OSError):  # a full disk or one that is read only costs the next process the same seconds again
        _publish(folder, panel, labels)
    return panel, labels


def _publish(folder: Path, panel: Panel, labels: Labels) -> None:
    """Write the files under another name and rename the folder, so that nobody reads half of one."""
    folder.parent.mkdir(exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
    try:
        write_mapping(building, panel, labels)
        building.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)

"""The panel and labels of a snapshot, from the files beside it if some process has laid them out before."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

import factors
import storage
from factors.alphas import Alpha
from factors.evaluator import Evaluator
from factors.labels import Labels, forward_returns
from factors.mapping import read_array, read_mapping, write_array, write_mapping
from factors.panel import Panel
from factors.redundancy import Sample, readable, sample
from factors.team import Team
from graphs.laboratory import PanelLaboratory
from storage.markets import Snapshot


@lru_cache(maxsize=2)
def load_panel(snapshot: Snapshot, universe: str) -> tuple[Panel, Labels]:
    """A snapshot's in-sample panel and its labels; the two last used are kept mapped."""
    folder = _folder(snapshot, universe)
    with suppress(OSError, ValueError):
        return read_mapping(folder)
    team = Team()
    with snapshot.cells(universe) as cells:
        panel = Panel.from_cells(cells, snapshot.train_end, team)
    labels = forward_returns(panel, team=team)
    with suppress(OSError):  # a full disk, or one that is read only, costs the next process the same seconds again
        _publish(folder, panel, labels)
    return panel, labels


def _folder(snapshot: Snapshot, universe: str) -> Path:
    name = f"{snapshot.id}-{hashlib.sha256(universe.encode()).hexdigest()[:16]}"
    return snapshot.path.parent / ".panels" / name / _sources()


def laboratory(
    snapshot: Snapshot,
    universe: str,
    alphas: Iterable[Alpha] = (),
    announce: Callable[[int], object] = lambda _: None,
) -> PanelLaboratory:
    """A laboratory in this process, which compares formulas with these alphas; ``announce`` as for the sample."""
    panel, labels = load_panel(snapshot, universe)
    return PanelLaboratory(
        panel,
        labels,
        lambda evaluator: load_sample(snapshot, universe, alphas, evaluator, announce),
        market=snapshot.market,
        snapshot=snapshot.id,
        universe=universe,
    )


def load_sample(
    snapshot: Snapshot,
    universe: str,
    alphas: Iterable[Alpha],
    evaluator: Evaluator,
    announce: Callable[[int], object],
) -> Sample:
    """Ranks of known alphas on some train days, from a file beside the panel's once they were computed.

    Before they are computed, which takes some seconds, ``announce`` is called with their number.
    """
    known = readable(alphas, evaluator.panel)
    name = hashlib.sha256("\n".join(str(alpha.expr) for alpha in known).encode()).hexdigest()[:16]
    path = _folder(snapshot, universe) / f"alphas-{name}.npy"
    with suppress(OSError, ValueError, EOFError):
        ranks = read_array(path)
        if len(ranks) == len(known):
            return Sample(known, ranks)
    announce(len(known))
    found = sample(known, evaluator)
    with suppress(OSError):  # as for the panel
        partial = path.with_name(f"{path.stem}-{os.getpid()}.npy")
        write_array(partial, found.ranks)
        partial.replace(path)
    return found


@cache
def _sources() -> str:
    """A hash of the code that lays panels out: no panel is read that other code has written."""
    digest = hashlib.sha256()
    for package in (factors, storage):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _publish(folder: Path, panel: Panel, labels: Labels) -> None:
    """Write the files under another name, rename their folder so that nobody reads half of it, remove older ones."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        write_mapping(building, panel, labels)
        building.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)

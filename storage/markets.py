"""Markets: immutable, content-hashed versions of daily bars, and a pointer to the current one.

    ROOT/markets/NAME/current                   the id of the current version, swapped atomically
    ROOT/markets/NAME/<id>/insample.duckdb      bars, membership and sectors up to the end of valid, and meta
    ROOT/markets/NAME/<id>/holdout.duckdb       the same of what comes after; absent without a hold-out
    ROOT/markets/NAME/.import/                  a version being built; only a killed process leaves one behind

A published version is never modified. ``insample.duckdb`` holds nothing that is dated after ``valid_end``: no
bar, no change of membership, no sector of an instrument that first trades later, no name of a column or an index that
begins later.
"""

import difflib
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import duckdb

from factors.errors import DataError, NotFoundError, SettingError
from factors.frame import ArrowStream
from storage.snapshot import LIMITS, Snapshot, read_snapshot
from storage.staging import Settings, content_hash, known_by, settle, stage, write

__all__ = ["Snapshot", "list_markets", "market_names", "open_market", "publish", "published_files", "versions"]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_ID = re.compile(r"[0-9a-f]{16}")


def open_market(root: Path, name: str, version: str | None = None) -> Snapshot:
    """A version of a market, the current one where none is named.

    Raises:
        SettingError: ``name`` cannot be a market's name.
        NotFoundError: no market of that name has been published, or it has no such version.
        DataError: the market's files are damaged.
    """
    folder = _folder(root, name)
    current = _current(folder)
    if current is None:
        known = market_names(root)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise NotFoundError(
            f"no market {name!r}; {hint}Markets: {', '.join(known) or 'none'}. "
            "Make one with `alphaagent data demo` or `alphaagent data import`"
        )
    if not _published(folder, current):
        raise DataError(f"market {name!r} is damaged: {folder / 'current'} names no version; import it again")
    if version is not None and not _published(folder, version):
        raise NotFoundError(f"market {name!r} has no version {version!r}; its current one is {current}")
    return read_snapshot(folder, version or current)


def versions(root: Path, name: str) -> list[Snapshot]:
    """Every version of a market that is there, by id.

    Raises:
        SettingError: ``name`` cannot be a market's name.
    """
    folder = _folder(root, name)
    return [read_snapshot(folder, path.name) for path in sorted(folder.glob("*")) if _published(folder, path.name)]


def published_files(root: Path) -> Iterator[Path]:
    """The files of all versions of all markets, after the pointer to one of them, which then are all there."""
    for name in market_names(root):
        folder = root / "markets" / name
        yield folder / "current"
        for version in sorted(folder.iterdir()):
            if _published(folder, version.name):
                yield from sorted(version.iterdir())


def _published(folder: Path, version: str) -> bool:
    return _ID.fullmatch(version) is not None and (folder / version / "insample.duckdb").is_file()


def list_markets(root: Path, market: str | None = None) -> list[Snapshot]:
    """The current version of every market, by name, or of that one alone; raises what :func:`open_market` does."""
    return [open_market(root, name) for name in (market_names(root) if market is None else [market])]


def publish(
    root: Path,
    name: str,
    bars: ArrowStream,
    *,
    membership: ArrowStream | None = None,
    sectors: ArrowStream | None = None,
    train_end: date | None = None,
    valid_end: date | None = None,
    holdout: bool = True,
    synthetic: bool = False,
    tell: Callable[[str], object] = lambda _: None,
) -> Snapshot:
    """Make these tables the current version of a market; the same content again changes nothing on disk.

    Args:
        root: the folder that holds ``markets/``; created when missing.
        name: the market's name: a lower-case letter, then at most 39 of a-z, 0-9, ``_`` and ``-``.
        bars: one row per date and symbol, in any order: ``date``, ``symbol``, ``open``, ``high``, ``low``,
            ``close``, ``volume``, optionally ``adj_factor`` (adjusted price = price x factor), ``suspended``
            (true, false) and any more numeric columns. NaN and infinity become null, and so does a price of
            zero on a suspended day. Ignored are extra columns without a finite value in sample or with a name that no
            formula can spell, and ``return``, ``member`` and ``sector``, which are derived.
        membership: ``symbol``, ``start``, ``end`` and optionally ``index`` (``members`` where absent). A
            symbol is a member from ``start`` inclusive to ``end`` exclusive, without bound where null. The
            order in which indices first appear is part of the content.
        sectors: ``symbol``, ``sector``.
        train_end: last day of train; may be left out only without a hold-out (then 70 % of the dates).
        valid_end: last day of valid; required with a hold-out, refused without.
        holdout: whether the bars after ``valid_end`` are sealed; without, there is no later bar.
        synthetic: whether the bars are made up.
        tell: takes what is worth saying of the rows.

    Raises:
        SettingError: the name or the dates cannot be.
        DataError: the rows cannot be a market, or leave a split empty.
    """
    folder = _folder(root, name)
    with _workplace(folder) as work:
        with duckdb.connect(":memory:", config={**LIMITS, "temp_directory": str(work / "spill")}) as con:
            fields, universes, repeated = stage(con, bars, membership, sectors)
            if repeated:
                tell(f"{repeated} rows are there more than once, and count once")
            train_end, valid_end = settle(con, train_end, valid_end, holdout)
            fields, universes = known_by(con, fields, universes, valid_end)
            settings = Settings(fields, universes, train_end, valid_end, holdout, synthetic)
            version = content_hash(con, settings)
            if not (folder / version).exists():
                (work / version).mkdir()
                write(con, work / version, settings)
        _make_current(folder, work, version)
    return read_snapshot(folder, version)


def _folder(root: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"market name {name!r}: expected a lower-case letter, then at most 39 of a-z, 0-9, '_' and '-'"
        )
    return root / "markets" / name


def market_names(root: Path) -> list[str]:
    """The names of all markets, in order."""
    names = (pointer.parent.name for pointer in (root / "markets").glob("*/current"))
    return sorted(name for name in names if _NAME.fullmatch(name))


def _current(folder: Path) -> str | None:
    try:
        return (folder / "current").read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """An empty folder to build a version in, while no other process builds one of this market."""
    created = [folder, *(path for path in folder.parents if not path.exists())]
    lock = _lock(folder)
    work = folder / ".import"
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        yield work
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):
            for path in created:
                path.rmdir()
        raise
    else:
        shutil.rmtree(work)
    finally:
        os.close(lock)


def _lock(folder: Path) -> int:
    """Create the folder, wait until nobody holds it, and hold it by the returned open descriptor."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Whoever held the lock before may have failed and removed the folder while we waited.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        os.close(descriptor)


def _make_current(folder: Path, work: Path, version: str) -> None:
    """Move a version into its place and point to it; each step is on disk before the next begins."""
    built = work / version
    fresh = built.exists()
    before = _current(folder)
    try:
        if fresh:
            for path in (*built.iterdir(), built):
                _sync(path)
            built.rename(folder / version)
            _sync(folder)
        if before != version:
            pointer = work / "current"
            pointer.write_text(f"{version}\n", encoding="ascii")
            _sync(pointer)
            pointer.replace(folder / "current")
            _sync(folder)
    except BaseException:
        if fresh and _current(folder) != version:
            shutil.rmtree(folder / version, ignore_errors=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

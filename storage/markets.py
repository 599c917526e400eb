"""Markets: immutable, content-hashed versions of bars, and a pointer to the current one.

    ROOT/markets/NAME/current                   the id of the current version, swapped atomically
    ROOT/markets/NAME/<id>/insample.duckdb      what is known besides the bars up to the end of valid, and meta
    ROOT/markets/NAME/<id>/insample/            bars up to the end of valid, in files that versions share
    ROOT/markets/NAME/<id>/holdout.duckdb       the same of what comes after; absent without a hold-out
    ROOT/markets/NAME/<id>/holdout/
    ROOT/markets/NAME/.import/                  a version being built or removed; a killed process may leave it behind
    ROOT/markets/NAME/.pruned/<id>              the last in-sample day of a version that was removed
    ROOT/markets/NAME/.panels/<id>-…            what was laid out of a version, see :mod:`app.panels`

A published version is never modified. What is in sample holds nothing that is dated after ``valid_end``: no bar, no
change of membership, no sector of an instrument that first trades later, no name of a column or an index that begins
later.
"""

import difflib
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import duckdb

from factors.errors import AlphaAgentError, DataError, NotFoundError, SettingError
from factors.frame import ArrowStream, PlainStream
from storage.acceptance import certify, known_rules
from storage.disk import sync
from storage.draft import BARS, Terms, draft, draft_append, write
from storage.snapshot import INSAMPLE, LIMITS, Snapshot, literal, read_snapshot
from storage.trading_rules import NO_RULES, rule_set
from storage.watch import Progress, Tell

__all__ = [
    "InUseError",
    "Snapshot",
    "ends",
    "list_markets",
    "market_names",
    "open_market",
    "prune",
    "publish",
    "published_files",
    "versions",
]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_ID = re.compile(r"[0-9a-f]{16}")


class InUseError(AlphaAgentError):
    """A version that cannot be removed: it is the current one, or a run works on it."""


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
        pruned = " any more: it was pruned" if version in ends(root, name) else ""
        raise NotFoundError(f"market {name!r} has no version {version!r}{pruned}; its current one is {current}")
    return read_snapshot(folder, version or current)


def versions(root: Path, name: str) -> list[Snapshot]:
    """Every version of a market that is there, by id.

    Raises:
        SettingError: ``name`` cannot be a market's name.
    """
    folder = _folder(root, name)
    return [read_snapshot(folder, path.name) for path in sorted(folder.glob("*")) if _published(folder, path.name)]


def ends(root: Path, name: str) -> dict[str, date]:
    """The last in-sample day of every version of a market that is there or was pruned, by id.

    Raises:
        SettingError: ``name`` cannot be a market's name.
    """
    gone = {path.name: date.fromisoformat(path.read_text(encoding="ascii").strip()) for path in _pruned(root, name)}
    return gone | {one.id: one.valid_end for one in versions(root, name)}


def _pruned(root: Path, name: str) -> list[Path]:
    return [path for path in sorted((_folder(root, name) / ".pruned").glob("*")) if _ID.fullmatch(path.name)]


def published_files(root: Path) -> Iterator[Path]:
    """The files of all versions of all markets, after the pointer to one of them, and what is known of pruned ones."""
    for name in market_names(root):
        folder = root / "markets" / name
        yield folder / "current"
        yield from _pruned(root, name)
        for version in sorted(folder.iterdir()):
            if _published(folder, version.name):
                yield from sorted(path for path in version.rglob("*") if not path.is_dir())


def _published(folder: Path, version: str) -> bool:
    return _ID.fullmatch(version) is not None and (folder / version / INSAMPLE).is_dir()


def list_markets(root: Path, market: str | None = None) -> list[Snapshot]:
    """The current version of every market, by name, or of that one alone; raises what :func:`open_market` does."""
    return [open_market(root, name) for name in (market_names(root) if market is None else [market])]


def publish(
    root: Path,
    name: str,
    bars: ArrowStream,
    *,
    train_end: date | None = None,
    valid_end: date | None = None,
    holdout: bool = True,
    synthetic: bool = False,
    rules: str = NO_RULES,
    accept: Collection[str] = (),
    append: bool = False,
    tell: Tell = lambda _: None,
    progress: Progress = lambda *_: None,
    **reference: ArrowStream | None,
) -> Snapshot:
    """Make these tables the current version of a market; the same content again changes nothing on disk.

    Args:
        root: the folder that holds ``markets/``; created when missing.
        name: the market's name: a lower-case letter, then at most 39 of a-z, 0-9, ``_`` and ``-``.
        bars: one row per date and symbol, in any order: ``date``, ``symbol``, ``open``, ``high``, ``low``,
            ``close``, ``volume``, optionally ``adj_factor`` (adjusted price = price x factor), ``suspended``
            (true, false) and any more numeric columns. Where a symbol has several bars on a day, ``date`` is the
            time that a bar is known at, as the exchange's clock has it. NaN and infinity become null, and so does a
            price of zero on a suspended day. Ignored are extra columns without a finite value in sample or with a name
            that no formula can spell, and ``return``, ``member`` and ``sector``, which are derived.
        train_end: last day of train; may be left out only without a hold-out (then 70 % of the dates).
        valid_end: last day of valid; required with a hold-out, refused without.
        holdout: whether the bars after ``valid_end`` are sealed; without, there is no later bar.
        synthetic: whether the bars are made up.
        rules: how the instruments trade, a name of :data:`storage.trading_rules.RULE_SETS`.
        accept: rules of :mod:`storage.quality` whose errors do not stop the publication.
        append: the bars follow those of the current version, whose splits, rules and hold-out stay.
        tell: takes what is worth saying, a line at a time.
        progress: takes a stage, how much of it is done, and of how much.
        reference: tables of :data:`storage.reference.TABLES` and ``tickers`` by name. A row with ``start`` and ``end``
            holds from ``start`` inclusive to ``end`` exclusive, without bound where null. The order in which indices
            first appear in the membership is part of the content.

    Raises:
        SettingError: the name, the dates, or a name of a rule or of rules cannot be.
        DataError: the rows cannot be a market, leave a split empty, or break a rule that is not accepted.
        NotFoundError: there is no version that bars could follow.
        OSError: the disk is full, or fails.
    """
    streams = {BARS: bars, **{table: stream for table, stream in reference.items() if stream is not None}}

    def load(con: duckdb.DuckDBPyConnection) -> Mapping[str, str]:
        for table, stream in streams.items():
            con.register(f"given_{table}", PlainStream(stream))
        return {table: f"given_{table}" for table in streams}

    terms = Terms(train_end, valid_end, holdout, synthetic, rules)
    return publish_views(root, name, load, terms, accept=accept, append=append, tell=tell, progress=progress)


def publish_views(
    root: Path,
    name: str,
    load: Callable[[duckdb.DuckDBPyConnection], Mapping[str, str]],
    terms: Terms,
    *,
    accept: Collection[str],
    append: bool,
    tell: Tell,
    progress: Progress,
) -> Snapshot:
    """As :func:`publish`, of views that ``load`` makes in a connection, whose names it returns by what they hold."""
    folder = _folder(root, name)
    known_rules(accept)
    with _workplace(folder) as work:
        current = _current(folder)
        base = read_snapshot(folder, current) if current is not None and _published(folder, current) else None
        with _staging(work) as con:
            views = load(con)
            if append:
                if base is None:
                    raise NotFoundError(f"market {name!r} has no version that bars could follow; import it whole first")
                _check_terms(terms, base)
                made = draft_append(con, views, base, accept, tell, progress)
                if made is None:
                    return base
            else:
                made = draft(con, views, terms, base, tell, progress)
            fresh = not (folder / made.id).exists()
            if fresh:
                (work / made.id).mkdir()
                write(con, made, work / made.id, progress)
        if fresh:
            follows = base if append else None
            # What is appended to a hold-out changes nothing in sample, unless reference data come with it.
            same = follows is not None and follows.has_holdout and set(views) == {BARS}
            certify(work / made.id, rule_set(made.settings.trading_rules).exchange, accept, follows, same=same)
        _make_current(folder, work, made.id)
    return read_snapshot(folder, made.id)


@contextmanager
def _staging(work: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose tables are in a file of the workplace, which nobody reads once it is closed.

    What memory does not hold of them is in the file already; of a database in memory it would be written each time.
    """
    with duckdb.connect(":memory:", config={**LIMITS, "temp_directory": str(work / "spill")}) as con:
        # Or a timestamp with a zone would be another day on another machine.
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"ATTACH {literal(work / 'staging')} AS staging (RECOVERY_MODE no_wal_writes)")
        con.execute("USE staging")
        yield con


def _check_terms(terms: Terms, base: Snapshot) -> None:
    """Refuse other terms than those of the version that bars follow."""
    kept = Terms(base.train_end, base.valid_end, base.has_holdout, base.synthetic, base.trading_rules)
    names = ("train_end", "valid_end", "holdout", "rules")
    other = [name for name in names if getattr(terms, name) not in {getattr(Terms(), name), getattr(kept, name)}]
    if other:
        raise SettingError(
            f"bars that follow keep splits, rules and hold-out as the market's: give no other {', '.join(other)}"
        )


def prune(root: Path, name: str, version: str, check: Callable[[], object] = lambda: None) -> None:
    """Remove a version of a market and what was laid out of it; until which day it was in sample stays known.

    A process that is killed meanwhile leaves a version that is there whole or not at all.

    Args:
        root: the folder that holds ``markets/``.
        name: of the market.
        version: its id.
        check: raises where the version is in use; called while no version can become current.

    Raises:
        SettingError: ``name`` cannot be a market's name.
        NotFoundError: no such market or version.
        InUseError: it is the current version.
        Exception: whatever ``check`` raises; nothing is removed.
    """
    snapshot = open_market(root, name, version)
    folder = _folder(root, name)
    with _workplace(folder) as work:
        if not _published(folder, version):  # somebody else has removed it meanwhile
            raise NotFoundError(f"market {name!r} has no version {version!r}")
        if _current(folder) == version:
            raise InUseError(f"version {version} is the current one of market {name!r}: it is not removed")
        check()
        note = work / "note"
        note.write_text(f"{snapshot.valid_end}\n", encoding="ascii")
        sync(note)
        (folder / ".pruned").mkdir(exist_ok=True)
        note.replace(folder / ".pruned" / version)
        for path in (folder / ".pruned", folder):
            sync(path)
        (folder / version).rename(work / version)
        sync(folder)
        for laid_out in (folder / ".panels").glob("*"):
            if not _published(folder, laid_out.name.partition("-")[0]):
                laid_out.rename(work / laid_out.name)


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
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):
            for path in created:
                path.rmdir()
        if isinstance(error, (duckdb.IOException, duckdb.OutOfMemoryException)):
            raise OSError(f"market {folder.name!r} stays as it was: {error}") from error
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
            for path in (*built.rglob("*"), built):
                sync(path)
            built.rename(folder / version)
            sync(folder)
        if before != version:
            pointer = work / "current"
            pointer.write_text(f"{version}\n", encoding="ascii")
            sync(pointer)
            pointer.replace(folder / "current")
            sync(folder)
    except BaseException:
        if fresh and _current(folder) != version:
            with suppress(OSError):  # out of its place at once, or whoever is killed here would leave half of it there
                (folder / version).rename(built)
        raise

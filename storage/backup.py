"""Backups of a home: its databases and its markets, in a folder that is there whole or not at all.

    BACKUP/manifest.json     versions, and size and SHA-256 of each other file
    BACKUP/*.sqlite          each database of the home, copied in one transaction
    BACKUP/markets/          the published versions of each market, hold-outs included, and which one is current

Everything is copied while others write. What differs in time must not contradict itself, so the order matters:

1. The other databases, which say how far work has come, before the records, which say what came of it. A run that
   goes on from the backup then may repeat steps whose results the records have, which write each of them once; the
   other way round it would go on behind results that are lost.
2. The markets after the records: but for those that somebody prunes, versions are only ever added, so all that the
   records name are there. One that is pruned while it is copied ends the backup with an error.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, ValidationError
from sqlalchemy import URL, make_url

from factors.errors import DataError, SettingError
from storage.disk import sync
from storage.markets import published_files

_MANIFEST: Final = "manifest.json"


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not name.isprintable() or name in {"", ".", _MANIFEST}:
        raise ValueError(f"{name!r} is no file of a backup")
    return name


class BackupFile(BaseModel):
    """A file of a backup: its path from the home, its size in bytes, its SHA-256 in hexadecimal digits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_inside)]
    size: int
    sha256: str


class Backup(BaseModel):
    """What a backup holds, made when and by which version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    created_at: AwareDatetime
    version: str
    files: tuple[BackupFile, ...]


def back_up(home: Path, database_url: str, target: Path, version: str) -> Backup:
    """Copy a home, which may be at work, into a new folder.

    Args:
        home: the folder of markets and records.
        database_url: where the records are.
        target: the folder to make; it appears when it is complete.
        version: of the program, for the manifest.

    Raises:
        SettingError: there is such a folder already, or the records are elsewhere than in the home.
        OSError: something cannot be read or written; nothing is left behind.
    """
    records = _records(home, database_url)
    if target.exists():
        raise SettingError(f"{target} exists: a backup is made in a new folder")
    with _appearing(target) as folder:
        others = (path for path in sorted(home.glob("*.sqlite")) if path != records)
        for database in (*others, records):
            _copy_database(database, folder / database.name)
        for path in published_files(home):
            copied = folder / path.relative_to(home)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        made = Backup(
            created_at=datetime.now(UTC),
            version=version,
            files=tuple(_described(path, path.relative_to(folder).as_posix()) for path in files),
        )
        (folder / _MANIFEST).write_text(made.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return made


def restore(source: Path, home: Path) -> Backup:
    """Make a home of a backup; the home appears when every file has been copied and found to be as it was.

    Raises:
        DataError: no backup, or one of its files is not what it was.
        SettingError: the home is there and not empty, or cannot be replaced.
        OSError: something cannot be read or written; nothing is left behind.
    """
    made = _manifest(source)
    if home.exists() and any(home.iterdir()):
        raise SettingError(f"{home} is not empty: a backup is restored into a new home")
    with _appearing(home) as folder:
        for file in made.files:
            copied = folder / file.name
            copied.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(source / file.name, copied)
            except FileNotFoundError:
                raise DataError(f"{source} is damaged: {file.name} is missing") from None
            if _described(copied, file.name) != file:
                raise DataError(f"{source} is damaged: {file.name} is not what was backed up")
    return made


def _manifest(source: Path) -> Backup:
    try:
        return Backup.model_validate_json((source / _MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{source} is no backup: it has no {_MANIFEST}") from None
    except ValidationError as error:
        raise DataError(f"{source} is no backup of this version: {error.errors()[0]['msg']}") from error


def _records(home: Path, database_url: str) -> Path:
    address = make_url(database_url)
    if address.get_backend_name() != "sqlite":
        shown = URL.create("postgresql", address.username, None, address.host, address.port, address.database)
        raise SettingError(
            "the records are in PostgreSQL, whose own tool backs them up: pg_dump --format=custom --file=records.dump "
            f"{quote(shown.render_as_string())}; copy {home / 'markets'} after that"
        )
    records = Path(str(address.database)).absolute()
    if records.parent != home.absolute():
        raise SettingError(f"the records, {records}, are not in the home {home}: a backup is of one home")
    if not records.is_file():
        raise SettingError(f"there is nothing to back up in {home}: it has no records")
    return records


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes the target at the end, safe on disk, and vanishes on an error."""
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.absolute().parent))
    try:
        yield folder
        for path in (*folder.rglob("*"), folder):
            sync(path)
        try:
            folder.rename(target)
        except OSError as error:
            raise SettingError(f"{target} cannot be made: {error.strerror}") from error
        sync(target.absolute().parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _copy_database(source: Path, target: Path) -> None:
    # In one step: a copy in several would begin again whenever somebody writes between two of them.
    address = f"{source.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, uri=True)) as read, closing(sqlite3.connect(target)) as written:
        read.backup(written)
    target.chmod(0o600)


def _described(path: Path, name: str) -> BackupFile:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return BackupFile(name=name, size=path.stat().st_size, sha256=digest)

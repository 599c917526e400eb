"""Data sets: what an admin may have the service import, by id, from one folder of the server and from nowhere else.

An id is never a path. It names a folder in the import folder, or a file there without its ``.parquet`` or ``.csv``.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from factors.errors import DataError, NotFoundError

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FILES: Final = {".parquet", ".csv"}


def datasets(folder: Path) -> list[str]:
    """The ids of what is in an import folder, in order; none where there is no such folder."""
    return sorted({name for name, _ in _entries(folder)})


def dataset(folder: Path, name: str, *, file: bool = False) -> Path:
    """Where a data set is.

    Args:
        folder: the import folder.
        name: its id.
        file: whether it must be a file.

    Raises:
        NotFoundError: there is none of that id.
        DataError: there are several, or it leads out of the folder, or holds what is neither a file nor a folder.
    """
    found = [path for known, path in _entries(folder) if known == name and not (file and path.is_dir())]
    if not found:
        kind = "file" if file else "data set"
        known = ", ".join(datasets(folder)) or "nothing"
        raise NotFoundError(f"no {kind} {name!r} in the import folder, which holds {known}")
    if len(found) > 1:
        raise DataError(f"data set {name!r} is there more than once: {', '.join(path.name for path in found)}")
    _check_inside(found[0], folder.resolve())
    return found[0].resolve()


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            name = path.name if path.is_dir() else path.stem
            if _ID.fullmatch(name) and (path.is_dir() or path.suffix.lower() in _FILES):
                yield name, path


def _check_inside(path: Path, root: Path) -> None:
    """Refuse a data set with a symbolic link that leads out, or anything else that is no file of the folder."""
    _check_entry(path, root)
    for place, folders, files in os.walk(path):
        for name in (*folders, *files):
            entry = Path(place, name)
            if entry.is_symlink() and entry.is_dir():
                raise DataError(f"{entry.relative_to(path.parent)} is a link to a folder: expected files and folders")
            _check_entry(entry, root)


def _check_entry(entry: Path, root: Path) -> None:
    if not (entry.is_file() or entry.is_dir()):
        raise DataError(f"{entry.name} is neither a file nor a folder")
    if entry.is_symlink() and not entry.resolve().is_relative_to(root):
        raise DataError(f"{entry.name} is a link that leads out of the import folder")

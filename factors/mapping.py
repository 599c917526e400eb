"""A panel and its labels as files that are mapped into memory: opened at once, and shared between processes."""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factors.labels import Labels
from factors.panel import Panel

_PANEL = ("dates", "bar", "tradable", "eligible", "universe", "sectors", "first_row", "delisting")
_LABELS = ("returns", "ranks", "counts")


def write_mapping(folder: Path, panel: Panel, labels: Labels) -> None:
    """Write both into an empty folder, one file an array."""
    arrays = {name: getattr(panel, name) for name in _PANEL} | {name: getattr(labels, name) for name in _LABELS}
    arrays |= {f"field-{number}": values for number, values in enumerate(panel.fields.values())}
    for name, values in arrays.items():
        write_array(folder / f"{name}.npy", values)
    about = {
        "fields": list(panel.fields),
        "symbols": panel.symbols,
        "splits": panel.splits,
        "settlement": panel.settlement,
        "horizons": labels.horizons,
    }
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def read_mapping(folder: Path) -> tuple[Panel, Labels]:
    """Map what :func:`write_mapping` wrote.

    Raises:
        OSError: it is not there.
        ValueError: a file is damaged.
    """
    about: Mapping[str, Any] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    panel = Panel(
        symbols=tuple(about["symbols"]),
        fields={name: read_array(folder / f"field-{number}.npy") for number, name in enumerate(about["fields"])},
        splits={name: (start, stop) for name, (start, stop) in about["splits"].items()},
        settlement=about["settlement"],
        **{name: read_array(folder / f"{name}.npy") for name in _PANEL},
    )
    return panel, Labels(
        horizons=tuple(about["horizons"]), **{name: read_array(folder / f"{name}.npy") for name in _LABELS}
    )


def write_array(path: Path, values: NDArray[Any]) -> None:
    """Write an array to a file of that name, which ends in ``.npy``."""
    np.save(path, values)


def read_array(path: Path) -> NDArray[Any]:
    """Map what :func:`write_array` wrote.

    Raises:
        OSError: it is not there.
        ValueError: it is damaged.
    """
    # Copy on write rather than read only, for which the kernels would be compiled a second time; nobody writes. And a
    # plain array, as Numba is slow to recognise a memmap.
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


def array_bytes(values: NDArray[Any]) -> bytes:
    """An array as another process reads it, to the bit."""
    content = BytesIO()
    np.save(content, values)
    return content.getvalue()


def bytes_array(content: bytes) -> NDArray[Any]:
    """What :func:`array_bytes` wrote.

    Raises:
        ValueError: it did not write this.
    """
    values: NDArray[Any] = np.load(BytesIO(content), allow_pickle=False)
    return values

"""Text that people and models write, made safe and short to show: one line of printable characters."""

import re
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import BeforeValidator

_STEM = 5
_FEW: Final = 5  # names that a line tells, of however many


def on_one_line(text: str) -> str:
    """A text with what is not printable, and each run of blanks, as one space; none at its ends.

    Line breaks, terminal escapes, and marks that reorder or hide what follows are not printable.
    """
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def first_few(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def stems(text: str) -> set[str]:
    """How the words of four letters and more in a text begin, so that the forms of a word are one."""
    return {word[:_STEM] for word in re.findall(r"[a-z]{4,}", text.lower())}


def _if_text(value: object) -> object:
    return on_one_line(value) if isinstance(value, str) else value


Prose = Annotated[str, BeforeValidator(_if_text)]
"""A field of such text."""

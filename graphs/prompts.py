"""Prompts: Markdown templates in ``prompts/``, strict about names, filled with quoted data or with words of our own.

What people and models wrote goes in as JSON strings on one line, cut at a length: it cannot end its quotation, begin a
line, or be taken for a slot. Only :class:`Words`, which are made here and from the registry, go in as they are.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from factors.alphas import published
from factors.columns import meaning
from factors.operators import COMPOSITES, MAX_WINDOW, OPERATORS, Form
from factors.prose import on_one_line

_SLOT = re.compile(r"\{\{(\w+)\}\}")
LONGEST = 400  #: characters of one quoted text
_EXAMPLES = 2
_OVER_WINDOW = re.compile(r" over (the last )?d rows")  # which is said once, above the table
_WINDOWS = f"d, n, fast and slow are whole numbers from 1 to {MAX_WINDOW}; what takes d looks at the last d rows."


class Words(str):
    """Text of our own making, which a prompt takes as it is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A filled template.

    Attributes:
        text: what a model reads.
        version: first 16 hexadecimal digits of the SHA-256 of the template.
    """

    text: str
    version: str

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the text."""
        return _hash(self.text)


def render(name: str, **values: object) -> Prompt:
    """The template ``prompts/NAME.md`` with each ``{{slot}}`` filled once; filled-in text is not scanned again.

    :class:`Words` go in as they are, all else quoted: see :func:`quoted`.

    Raises:
        KeyError: the template names a slot that has no value, or a value has no slot.
    """
    text = _template(name)
    slots = set(_SLOT.findall(text))
    if slots != set(values):
        raise KeyError(f"prompt {name}: slots {sorted(slots)}, values {sorted(values)}")
    filled = {slot: quoted(value) for slot, value in values.items()}
    return Prompt(_SLOT.sub(lambda match: filled[match[1]], text), version(name))


def quoted(value: object, longest: int = LONGEST) -> Words:
    """A value as data: a JSON string, number or object on one line; of several, a line each.

    Strings are made one line of printable characters and cut after ``longest``; :class:`Words` stay as they are.
    """
    if isinstance(value, Words):
        return value
    if isinstance(value, list | tuple):
        return Words("\n".join(f"- {quoted(item, longest)}" for item in value) or "- none")
    return Words(json.dumps(_plain(value, longest), ensure_ascii=False))


def version(name: str) -> str:
    """The version of a template: a hash of its text."""
    return _hash(_template(name))


def _plain(value: object, longest: int) -> object:
    if isinstance(value, str):
        line = on_one_line(value)
        return line if len(line) <= longest else f"{line[:longest]}…"
    if isinstance(value, Mapping):
        return {str(_plain(str(key), longest)): _plain(item, longest) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, longest) for item in value]
    return value


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _template(name: str) -> str:
    return resources.files("prompts").joinpath(f"{name}.md").read_text(encoding="utf-8")


@cache
def operator_table() -> Words:
    """One line an operator or composite, from the registry: signature and meaning."""
    return Words("\n".join([_WINDOWS, *map(_explained, _forms())]))


def operator_names(explained: Iterable[str]) -> Words:
    """The signatures alone, then those of these names with their meaning."""
    named = set(explained)
    others = " ".join(_signature(form) for form in _forms() if form.name not in named)
    return Words("\n".join([_WINDOWS, others, *(_explained(form) for form in _forms() if form.name in named)]))


@cache
def examples(fields: frozenset[str]) -> Words:
    """The shortest published formulas of some size that read these columns, to show the notation."""
    legible = [alpha for alpha in published() if alpha.needs <= fields and alpha.expr.size >= 8]  # noqa: PLR2004
    shown = sorted(legible, key=lambda alpha: (alpha.expr.size, alpha.name))[:_EXAMPLES]
    return Words("\n".join(f"- {alpha.expr}" for alpha in shown) or "- none")


def field_table(fields: Iterable[str]) -> Words:
    """One line a column: its name, and what it holds in which unit."""
    return Words("\n".join(f"{quoted('$' + name, 60)}: {meaning(name)}" for name in fields))


def _explained(form: Form) -> str:
    return f"{_signature(form)}: {_OVER_WINDOW.sub('', form.doc)}"


def _signature(form: Form) -> str:
    return form.signature.replace(f": 1..{MAX_WINDOW}", "")


def _forms() -> list[Form]:
    return [*(op for op in OPERATORS.values() if op.symbol is None), *COMPOSITES]

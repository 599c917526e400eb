"""Prompts: Markdown templates in ``prompts/``, strict about names, filled with values that are never templates."""

import re
from functools import cache
from importlib import resources

from factors.operators import COMPOSITES, OPERATORS, Form

_SLOT = re.compile(r"\{\{(\w+)\}\}")


def render(name: str, **values: object) -> str:
    """The template ``prompts/NAME.md`` with each ``{{slot}}`` filled once; filled-in text is not scanned again.

    Raises:
        KeyError: the template names a slot that has no value, or a value has no slot.
    """
    text = _template(name)
    slots = set(_SLOT.findall(text))
    if slots != set(values):
        raise KeyError(f"prompt {name}: slots {sorted(slots)}, values {sorted(values)}")
    return _SLOT.sub(lambda match: str(values[match[1]]), text)


@cache
def _template(name: str) -> str:
    return resources.files("prompts").joinpath(f"{name}.md").read_text(encoding="utf-8")


@cache
def operator_table() -> str:
    """One line an operator or composite, from the registry: signature and meaning."""
    written: list[Form] = [*(op for op in OPERATORS.values() if op.symbol is None), *COMPOSITES]
    return "\n".join(f"- `{form.signature}`: {form.doc}" for form in written)

"""A dialect: which names a formula may use for what, and how strictly it must be written."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from factors.errors import FormulaError
from factors.operators import COMPOSITES, Composite, Form, misfit, spellings, unknown


@dataclass(frozen=True, slots=True)
class Dialect:
    """A spelling of the factor language.

    Attributes:
        composites: formulas that have a name, told apart by their number of arguments; they come before operators.
        refused: names that mean something here which no operator computes, and why.
        forgiving: a fractional window is floored, and parentheses missing at the very end are closed.
    """

    composites: tuple[Composite, ...] = COMPOSITES
    refused: Mapping[str, str] = field(default_factory=dict)
    forgiving: bool = False

    def form(self, name: str, count: int) -> Form:
        """The operator or composite of this name that takes so many arguments.

        Raises:
            FormulaError: there is none; the message gives the signatures of the name, or the nearest names.
        """
        if name in self.refused:
            raise FormulaError(f"{name}: {self.refused[name]}")
        operators = spellings()
        named: list[Form] = [composite for composite in self.composites if composite.name == name]
        if name in operators:
            named.append(operators[name])
        if not named:
            raise unknown(name, [*operators, *(composite.name for composite in self.composites)])
        for form in named:
            if len(form.parameters) == count:
                return form
        raise misfit(named, count)


ALPHAAGENT = Dialect()

"""What can be wrong with a request, as exceptions that speak to a person or a model.

    AlphaAgentError
    ├── FormulaError      a text that is not a formula of the language
    ├── DataError         market data that cannot be imported as it is
    ├── NotFoundError     a name or id that nothing answers to
    ├── SettingError      an option or setting outside its range
    ├── ResearcherError   the researcher (a language model, say) gave nothing usable
    ├── MeasurementError   a formula that no figures could be had of
    └── EvaluationStoppedError   an evaluation that was told to stop

Each message is one line that says what was expected. A candidate refused by the gate is not an error: it is a
failed :class:`factors.verdict.Check`. Any other exception is a bug or broken infrastructure.
"""

from typing import Literal


class AlphaAgentError(Exception):
    """The root: the command line prints its message and exits with 2, the service answers a problem document."""


class FormulaError(AlphaAgentError):
    """A text that is not a formula.

    Attributes:
        position: offset in characters of the fault in the text, counted from 0.
    """

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


class DataError(AlphaAgentError):
    """Market data that cannot be imported as it is."""


class NotFoundError(AlphaAgentError):
    """A name or id that nothing answers to."""


class SettingError(AlphaAgentError):
    """An option or setting outside its range."""


FailureKind = Literal[
    "authentication",
    "permission",
    "unknown_model",
    "request",
    "rate_limit",
    "server",
    "connection",
    "timeout",
    "too_large",
    "malformed",
    "schema",
    "empty",
    "truncated",
    "refusal",
    "content_filter",
    "budget",
    "interrupted",
    "unable",
]
"""What kept a researcher from an answer: the endpoint, the way to it, or what was said. ``budget``: it may not be
asked any more. ``interrupted``: the process ended meanwhile. ``unable``: it had none."""


class ResearcherError(AlphaAgentError):
    """The researcher gave nothing usable.

    Attributes:
        kind: why.
    """

    def __init__(self, message: str, kind: FailureKind = "unable") -> None:
        super().__init__(message)
        self.kind = kind


class EvaluationStoppedError(AlphaAgentError):
    """An evaluation that was told to stop, or ran out of time."""


class MeasurementError(AlphaAgentError):
    """A formula that no figures could be had of: it took too long or too much memory, or its process died of it."""

"""The agents played by language models behind any OpenAI-compatible endpoint."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from factors.expression import Expr
from factors.hypothesis import Candidate, Hypothesis
from factors.regularization import Limits
from factors.verdict import hints
from factors.wording import in_words
from graphs.chat import Chat, Endpoint
from graphs.metering import Meter
from graphs.prompts import operator_table, render
from graphs.researcher import Alignment, Brief, Draft, Feedback, Idea, Trial

_TRIALS_SHOWN = 20


def _on_one_line(name: object) -> object:
    return " ".join("".join(c if c.isprintable() else " " for c in name).split()) if isinstance(name, str) else name


class _Formula(BaseModel):
    """One candidate as a model writes it."""

    name: Annotated[str, BeforeValidator(_on_one_line)] = Field(min_length=1, max_length=120)
    description: str = Field(min_length=1, max_length=2000)
    formula: str = Field(max_length=4000)


def _usable(items: object) -> object:
    """The candidates that can be used, where any can: one that cannot does not cost the others."""
    found = []
    for item in items if isinstance(items, list) else ():
        try:
            found.append(_Formula.model_validate(item))
        except ValidationError:
            continue
    return found or items


class _Formulas(BaseModel):
    """Candidates as a model writes them."""

    candidates: Annotated[list[_Formula], BeforeValidator(_usable)] = Field(min_length=1)


class LanguageModelResearcher:
    """Asks a model, each call independent; what gives no usable answer is a ``ResearcherError``.

    Args:
        endpoint: where the model answers.
        meter: of the run.
    """

    def __init__(self, endpoint: Endpoint, meter: Meter) -> None:
        self.name = endpoint.model
        self._chat = Chat(endpoint, meter)

    def propose(self, brief: Brief) -> Idea:
        """Ask the Idea agent."""
        prompt = render(
            "idea",
            direction=brief.direction,
            fields=_fields(brief),
            hypotheses=_lines(h.statement for h in brief.hypotheses),
            lessons=_lines(f.lesson for f in brief.feedback),
            library=_lines(brief.library),
            refusals=_lines(f"{name}: {times}" for name, times in brief.refusals.items()),
        )
        return self._chat.ask("idea", prompt, Idea)

    def draft(self, brief: Brief, hypothesis: Hypothesis, count: int) -> list[Draft]:
        """Ask the Factor agent for fresh candidates."""
        prompt = render(
            "factor",
            hypothesis=hypothesis.model_dump_json(indent=2),
            count=count,
            fields=_fields(brief),
            operators=operator_table(),
            limits=_limits(brief.limits),
            avoid=_lines(brief.avoid),
            trials=_lines(map(_summary, brief.trials[-_TRIALS_SHOWN:])),
        )
        return _drafts(self._chat.ask("factor", prompt, _Formulas))[:count]

    def revise(self, brief: Brief, hypothesis: Hypothesis, refused: list[Trial]) -> list[Draft | None]:
        """Ask the Factor agent to rewrite refused candidates, all in one call."""
        prompt = render(
            "revise",
            hypothesis=hypothesis.model_dump_json(indent=2),
            fields=_fields(brief),
            operators=operator_table(),
            limits=_limits(brief.limits),
            avoid=_lines(brief.avoid),
            refused=_lines(map(_summary, refused)),
        )
        rewritten: list[Draft | None] = [*_drafts(self._chat.ask("revise", prompt, _Formulas))]
        return (rewritten + [None] * len(refused))[: len(refused)]

    def judge(self, hypothesis: Hypothesis, candidate: Candidate, expr: Expr) -> Alignment:
        """Ask how well hypothesis, description and formula agree."""
        prompt = render(
            "judge",
            hypothesis=hypothesis.statement,
            specification=hypothesis.specification,
            description=candidate.description,
            formula=in_words(expr),
        )
        return self._chat.ask("judge", prompt, Alignment)

    def reflect(self, brief: Brief, hypothesis: Hypothesis, trials: list[Trial]) -> Feedback:
        """Ask the Eval agent what the round taught."""
        prompt = render(
            "feedback",
            direction=brief.direction,
            hypothesis=hypothesis.model_dump_json(indent=2),
            trials=_lines(map(_summary, trials)),
        )
        return self._chat.ask("feedback", prompt, Feedback)


def _drafts(formulas: _Formulas) -> list[Draft]:
    return [Draft(**formula.model_dump()) for formula in formulas.candidates]


def _fields(brief: Brief) -> str:
    return ", ".join(f"${name}" for name in brief.fields)


def _limits(limits: Limits) -> str:
    return (
        f"at most {limits.length} nodes, {limits.parameters} numbers, {limits.fields} fields, {limits.depth} levels, "
        f"{limits.look_back} rows of look-back"
    )


def _lines(texts: Iterable[object]) -> str:
    return "\n".join(f"- {text}" for text in texts) or "- none"


def _summary(trial: Trial) -> str:
    """One trial in words: the formula, then the measured rank ICs, then the failed checks with their hints."""
    words = f"{trial.candidate.name}: {trial.candidate.formula}"
    if trial.evaluation:
        figures = (f"{split} rank IC {m.rank_ic or 0:.4f}" for split, m in trial.evaluation.splits.items())
        words += f"; {', '.join(figures)}"
    failed = hints((*trial.verdict.checks, *trial.admission))
    if failed:
        words += f"; refused: {' | '.join(failed)}"
    return words

"""The agents played by language models behind any OpenAI-compatible endpoint."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from factors.expression import Expr
from factors.hypothesis import Candidate, Hypothesis, Variable
from factors.wording import in_words
from graphs.chat import Chat
from graphs.endpoint import Endpoint
from graphs.metering import Meter
from graphs.prompts import Words, examples, field_table, operator_names, operator_table, quoted, render, version
from graphs.researcher import Alignment, Brief, Draft, Feedback, Idea, Trial
from graphs.selection import anchor, earlier, explored, lessons, library, task
from graphs.summaries import diagnostics, operators_of, outcome

AGENTS = ("idea", "factor", "revise", "judge", "feedback", "repair")
_DIRECTION = 2000  # characters, as many as a person may write
_FORMULA = 600  # characters of a formula in words


def _on_one_line(name: object) -> object:
    return " ".join("".join(c if c.isprintable() else " " for c in name).split()) if isinstance(name, str) else name


class _Formula(BaseModel):
    """One candidate as a model writes it."""

    name: Annotated[str, BeforeValidator(_on_one_line)] = Field(min_length=1, max_length=120)
    description: str = Field(min_length=1, max_length=2000)
    formula: str = Field(max_length=4000)
    variables: list[Variable] = Field(default_factory=list, max_length=32)


class _Judgement(Alignment):
    """What a judge says of one candidate."""

    number: int


def _usable(shape: type[BaseModel]) -> BeforeValidator:
    """The items of a list that can be used, where any can: one that cannot does not cost the others."""

    def usable(items: object) -> object:
        found = []
        for item in items if isinstance(items, list) else ():
            try:
                given = {key: value for key, value in dict(item).items() if key in shape.model_fields}
                found.append(shape.model_validate(given))
            except (ValidationError, TypeError, ValueError):
                continue
        return found or items

    return BeforeValidator(usable)


class _Formulas(BaseModel):
    """Candidates as a model writes them."""

    candidates: Annotated[list[_Formula], _usable(_Formula)] = Field(min_length=1)


class _Judgements(BaseModel):
    """What a judge says of all candidates."""

    judgements: Annotated[list[_Judgement], _usable(_Judgement)] = Field(min_length=1)


class LanguageModelResearcher:
    """Asks models, each call independent; what gives no usable answer is a ``ResearcherError``.

    Args:
        reasoning: where Idea and Factor answer.
        chat: where the judge and Eval do, and whoever repairs an answer that does not fit.
        meter: of the run.
    """

    def __init__(self, reasoning: Endpoint, chat: Endpoint, meter: Meter) -> None:
        self._chat = Chat(chat, meter)
        self._reasoning = Chat(reasoning, meter, repairer=self._chat)

    @property
    def prompts(self) -> Mapping[str, str]:
        """Versions of the templates."""
        return {agent: version(agent) for agent in AGENTS}

    def propose(self, brief: Brief) -> Idea:
        """Ask the Idea agent."""
        prompt = render(
            "idea",
            direction=quoted(brief.direction, _DIRECTION),
            task=task(brief),
            fields=field_table(brief.fields),
            anchor=anchor(brief),
            hypotheses=explored(brief),
            lessons=lessons(brief),
            library=library(brief),
            refusals=brief.refusals,
        )
        return self._reasoning.ask(f"idea {brief.round}", "idea", prompt, Idea)

    def draft(self, brief: Brief, hypothesis: Hypothesis, count: int) -> list[Draft]:
        """Ask the Factor agent for fresh candidates."""
        prompt = render(
            "factor",
            hypothesis=_told(hypothesis),
            count=count,
            fields=field_table(brief.fields),
            operators=operator_table(),
            examples=examples(frozenset(brief.fields)),
            limits=_limits(brief),
            avoid=brief.avoid,
            trials=earlier(brief),
        )
        return _drafts(self._reasoning.ask(f"factor {brief.round}", "factor", prompt, _Formulas))[:count]

    def revise(self, brief: Brief, hypothesis: Hypothesis, refused: list[Trial]) -> list[Draft | None]:
        """Ask the Factor agent to rewrite refused candidates, all in one call."""
        prompt = render(
            "revise",
            hypothesis=_told(hypothesis),
            fields=field_table(brief.fields),
            operators=operator_names(operators_of(refused, brief.fields)),
            limits=_limits(brief),
            avoid=brief.avoid,
            refused=[outcome(trial) for trial in refused],
        )
        step = f"revise {refused[0].candidate.id}"
        rewritten: list[Draft | None] = [*_drafts(self._reasoning.ask(step, "revise", prompt, _Formulas))]
        return (rewritten + [None] * len(refused))[: len(refused)]

    def judge(self, hypothesis: Hypothesis, candidates: Sequence[tuple[Candidate, Expr]]) -> list[Alignment | None]:
        """Ask how well hypothesis, descriptions and formulas agree, all in one call."""
        prompt = render(
            "judge",
            hypothesis=hypothesis.statement,
            specification=hypothesis.specification,
            candidates=[
                {"number": number, "description": candidate.description, "computes": in_words(expr)[:_FORMULA]}
                for number, (candidate, expr) in enumerate(candidates, start=1)
            ],
        )
        answer = self._chat.ask(f"judge {candidates[0][0].id}", "judge", prompt, _Judgements)
        found = {one.number: Alignment(**one.model_dump(exclude={"number"})) for one in answer.judgements}
        return [found.get(number) for number in range(1, len(candidates) + 1)]

    def reflect(self, brief: Brief, hypothesis: Hypothesis, trials: list[Trial]) -> Feedback:
        """Ask the Eval agent what the round taught."""
        measured = sorted((trial for trial in trials if trial.evaluation), key=lambda trial: trial.reward, reverse=True)
        prompt = render(
            "feedback",
            direction=quoted(brief.direction, _DIRECTION),
            hypothesis=_told(hypothesis),
            measured=diagnostics(measured),
            refused=[outcome(trial) for trial in trials if not trial.evaluation],
        )
        return self._chat.ask(f"feedback {brief.round}", "feedback", prompt, Feedback)


def _drafts(formulas: _Formulas) -> list[Draft]:
    return [Draft(**formula.model_dump()) for formula in formulas.candidates]


def _told(hypothesis: Hypothesis) -> dict[str, object]:
    return hypothesis.model_dump(include={"statement", "specification", "justification", "horizon_days"})


def _limits(brief: Brief) -> Words:
    limits = brief.limits
    return Words(
        f"at most {limits.length} nodes, {limits.parameters} numbers, {limits.fields} fields, {limits.depth} levels, "
        f"{limits.look_back} rows of look-back"
    )

"""The agents played by language models behind any OpenAI-compatible endpoint."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from factors.expression import Expr
from factors.hypothesis import Candidate, Feedback, Hypothesis, Variable
from factors.prose import Prose
from graphs import questions
from graphs.answers import fitted
from graphs.chat import Chat
from graphs.endpoint import Endpoint
from graphs.metering import Meter
from graphs.prompts import version
from graphs.researcher import Alignment, Brief, Draft, Idea, Trial

AGENTS = ("idea", "factor", "revise", "judge", "feedback", "repair")


class _Formula(BaseModel):
    """One candidate as a model writes it."""

    name: Prose = Field(min_length=1, max_length=120)
    description: Prose = Field(min_length=1, max_length=2000)
    formula: Prose = Field(max_length=4000)
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
                found.append(fitted(dict(item), shape))
            except (ValidationError, TypeError, ValueError):
                continue
        return found or items

    return BeforeValidator(usable)


class Formulas(BaseModel):
    """Candidates as a model writes them."""

    candidates: Annotated[list[_Formula], _usable(_Formula)] = Field(min_length=1)


class Judgements(BaseModel):
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
        return self._reasoning.ask(f"idea {brief.round}", "idea", questions.idea(brief), Idea)

    def draft(self, brief: Brief, hypothesis: Hypothesis, count: int) -> list[Draft]:
        """Ask the Factor agent for fresh candidates."""
        question = questions.factor(brief, hypothesis, count)
        return _drafts(self._reasoning.ask(f"factor {brief.round}", "factor", question, Formulas))[:count]

    def revise(self, brief: Brief, hypothesis: Hypothesis, refused: list[Trial]) -> list[Draft | None]:
        """Ask the Factor agent to rewrite refused candidates, all in one call."""
        question, step = questions.revise(brief, hypothesis, refused), f"revise {refused[0].candidate.id}"
        rewritten: list[Draft | None] = [*_drafts(self._reasoning.ask(step, "revise", question, Formulas))]
        return (rewritten + [None] * len(refused))[: len(refused)]

    def judge(self, hypothesis: Hypothesis, candidates: Sequence[tuple[Candidate, Expr]]) -> list[Alignment | None]:
        """Ask how well hypothesis, descriptions and formulas agree, all in one call."""
        question, step = questions.judge(hypothesis, candidates), f"judge {candidates[0][0].id}"
        answer = self._chat.ask(step, "judge", question, Judgements)
        found = {one.number: Alignment(**one.model_dump(exclude={"number"})) for one in answer.judgements}
        return [found.get(number) for number in range(1, len(candidates) + 1)]

    def reflect(self, brief: Brief, hypothesis: Hypothesis, trials: list[Trial]) -> Feedback:
        """Ask the Eval agent what the round taught."""
        question = questions.feedback(brief, hypothesis, trials)
        return self._chat.ask(f"feedback {brief.round}", "feedback", question, Feedback)


def _drafts(formulas: Formulas) -> list[Draft]:
    return [Draft(**formula.model_dump()) for formula in formulas.candidates]

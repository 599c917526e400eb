"""The agents played by language models behind any OpenAI-compatible endpoint."""

from typing import TypeVar

from langchain_core.exceptions import LangChainException
from langchain_openai import ChatOpenAI
from openai import OpenAIError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from factors.errors import ResearcherError
from factors.expression import Expr
from factors.hypothesis import Candidate, Hypothesis
from factors.regularization import Limits
from factors.verdict import hints
from factors.wording import in_words
from graphs.prompts import operator_table, render
from graphs.researcher import Alignment, Brief, Draft, Feedback, Idea, Trial

_Answer = TypeVar("_Answer", bound=BaseModel)
_TRIALS_SHOWN = 20


class _Formula(BaseModel):
    """One candidate as a model writes it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=120)
    description: str = Field(min_length=1, max_length=2000)
    formula: str = Field(max_length=4000)


class _Formulas(BaseModel):
    """Candidates as a model writes them."""

    model_config = ConfigDict(extra="forbid")

    candidates: list[_Formula]


class LanguageModelResearcher:
    """Asks one chat model, each call independent; an answer that does not fit its schema is a ``ResearcherError``."""

    def __init__(self, model: str, api_key: SecretStr, base_url: str | None = None, timeout: float = 120) -> None:
        self.name = model
        self._chat = ChatOpenAI(model=model, api_key=api_key, base_url=base_url, timeout=timeout, max_retries=2)

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
        return self._ask(prompt, Idea)

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
        return _drafts(self._ask(prompt, _Formulas))[:count]

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
        rewritten: list[Draft | None] = [*_drafts(self._ask(prompt, _Formulas))]
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
        return self._ask(prompt, Alignment)

    def reflect(self, brief: Brief, hypothesis: Hypothesis, trials: list[Trial]) -> Feedback:
        """Ask the Eval agent what the round taught."""
        prompt = render(
            "feedback",
            direction=brief.direction,
            hypothesis=hypothesis.model_dump_json(indent=2),
            trials=_lines(map(_summary, trials)),
        )
        return self._ask(prompt, Feedback)

    def _ask(self, prompt: str, answer: type[_Answer]) -> _Answer:
        try:
            result = self._chat.with_structured_output(answer, method="function_calling").invoke(prompt)
        except (OpenAIError, LangChainException, ValidationError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ResearcherError(f"model {self.name} failed ({type(error).__name__}): {reason}") from error
        if not isinstance(result, answer):
            raise ResearcherError(f"model {self.name} gave no {answer.__name__.strip('_')}")
        return result


def _drafts(formulas: _Formulas) -> list[Draft]:
    return [Draft(**formula.model_dump()) for formula in formulas.candidates]


def _fields(brief: Brief) -> str:
    return ", ".join(f"${name}" for name in brief.fields)


def _limits(limits: Limits) -> str:
    return (
        f"at most {limits.length} nodes, {limits.parameters} numbers, {limits.fields} fields, {limits.depth} levels, "
        f"{limits.look_back} rows of look-back"
    )


def _lines(texts: object) -> str:
    lines = [f"- {text}" for text in texts]  # type: ignore[attr-defined]
    return "\n".join(lines) or "- none"


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

"""The questions that language models are asked, one for each agent: a prompt of bounded size from what is known."""

import re
from collections.abc import Sequence

from factors.columns import STANDARD_FIELDS
from factors.expression import Expr
from factors.hypothesis import Candidate, Hypothesis
from factors.wording import in_words
from graphs.prompts import Prompt, Words, examples, field_table, operator_names, operator_table, quoted, render
from graphs.researcher import Brief, Trial, ranked
from graphs.selection import anchor, earlier, explored, lessons, library, task
from graphs.summaries import diagnostics, operators_of, outcome, refusal

_DIRECTION = 2000  # characters, as many as a person may write
_DESCRIPTION, _FORMULA = 300, 600  # characters of what the judge compares
_PARTS, _PART = 5, 90  # parts to avoid, and their characters
_COLUMNS = 40  # of the market that are told, those that the direction names first
_REWRITTEN = 16  # refused candidates that one call rewrites; the others are given up
_REFUSED = 3  # candidates of a round that Eval reads of beside those that were measured


def idea(brief: Brief) -> Prompt:
    """For the hypothesis of a round."""
    return render(
        "idea",
        bar=Words(brief.bar),
        direction=quoted(brief.direction, _DIRECTION),
        task=task(brief),
        fields=field_table(_columns(brief)),
        anchor=anchor(brief),
        hypotheses=explored(brief),
        lessons=lessons(brief),
        library=library(brief),
        refusals=brief.refusals,
    )


def factor(brief: Brief, hypothesis: Hypothesis, count: int) -> Prompt:
    """For fresh candidates."""
    return render(
        "factor",
        hypothesis=_told(hypothesis),
        count=count,
        fields=field_table(_columns(brief)),
        operators=operator_table(),
        examples=examples(frozenset(brief.fields)),
        limits=_limits(brief),
        avoid=quoted(brief.avoid[:_PARTS], _PART),
        trials=earlier(brief),
    )


def revise(brief: Brief, hypothesis: Hypothesis, refused: Sequence[Trial]) -> Prompt:
    """For refused candidates rewritten."""
    return render(
        "revise",
        hypothesis=_told(hypothesis),
        fields=field_table(_columns(brief)),
        operators=operator_names(operators_of(refused, brief.fields)),
        limits=_limits(brief),
        avoid=quoted(brief.avoid[:_PARTS], _PART),
        refused=[refusal(trial) for trial in refused[:_REWRITTEN]],
    )


def judge(hypothesis: Hypothesis, candidates: Sequence[tuple[Candidate, Expr]]) -> Prompt:
    """For how well hypothesis, descriptions and formulas agree; the formulas are told in words."""
    return render(
        "judge",
        hypothesis=hypothesis.statement,
        specification=hypothesis.specification,
        candidates=[
            {
                "number": number,
                "description": candidate.description[:_DESCRIPTION],
                "computes": in_words(expr)[:_FORMULA],
            }
            for number, (candidate, expr) in enumerate(candidates, start=1)
        ],
    )


def feedback(brief: Brief, hypothesis: Hypothesis, trials: Sequence[Trial]) -> Prompt:
    """For what a round taught."""
    return render(
        "feedback",
        bar=Words(brief.bar),
        direction=quoted(brief.direction, _DIRECTION),
        hypothesis=_told(hypothesis),
        measured=diagnostics(ranked(trials)),
        refused=[outcome(trial) for trial in trials if not trial.evaluation][:_REFUSED],
    )


def _columns(brief: Brief) -> list[str]:
    words = set(re.findall(r"\w+", brief.direction.lower()))
    place = {name: number for number, name in enumerate(STANDARD_FIELDS)}

    def merit(name: str) -> tuple[bool, int]:
        return name.lower() not in words, place.get(name, len(place))

    told = set(sorted(brief.fields, key=merit)[:_COLUMNS])
    return [name for name in brief.fields if name in told]


def _told(hypothesis: Hypothesis) -> dict[str, object]:
    return hypothesis.model_dump(include={"statement", "specification", "horizon_days"})


def _limits(brief: Brief) -> Words:
    limits = brief.limits
    return Words(
        f"at most {limits.length} nodes, {limits.parameters} numbers, {limits.fields} fields, {limits.depth} levels, "
        f"{limits.look_back} rows of look-back"
    )

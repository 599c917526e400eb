"""How large the prompts of one round are, beside libraries of several sizes: ``python -m benchmarks.prompts [--json]``.

The offline researcher mines the demo market for some rounds, 8 candidates each. What the agents of its last round were
asked is put as the questions that language models get, once more for each size of the library, whose factors are drawn
from the offline researcher's grammars. A rewrite is asked of that round's three first candidates.

Tokens are those of ``o200k_base`` where tiktoken finds that vocabulary (``TIKTOKEN_CACHE_DIR``), else our estimate from
above; the JSON schema that goes with each prompt is counted with it. The table goes to ``benchmarks/prompts.md``.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import tiktoken
from pydantic import BaseModel

from app.runner import mine_here
from app.settings import Settings
from benchmarks.arms import SearchRunner
from benchmarks.holdout import demo, published
from benchmarks.regularization import drawn
from benchmarks.report import table
from factors.demo_market import demo_market
from factors.evaluation import SplitMetrics
from factors.expression import Expr
from factors.hypothesis import Candidate, Factor, Feedback, Hypothesis, factor_id
from factors.verdict import Check, Verdict
from graphs import questions
from graphs.answers import request
from graphs.llm import Formulas, Judgements
from graphs.metering import tokens
from graphs.offline import OfflineResearcher
from graphs.offline.themes import THEMES
from graphs.prompts import Prompt
from graphs.researcher import Alignment, Brief, Draft, Idea, Trial
from storage.records import Records
from storage.runs import Budget, RunRequest

LIBRARIES = (0, 100, 10_000)
ROUNDS, CANDIDATES, REWRITTEN = 6, 8, 3
DIRECTION = "volume that comes with gains, and closes near the top of the day's range"
ENCODING = "o200k_base"
AGENTS: Mapping[str, type[BaseModel]] = {
    "idea": Idea,
    "factor": Formulas,
    "judge": Judgements,
    "feedback": Feedback,
    "revise": Formulas,
}
"""The shape that each is asked for; a round without refusals asks all but the last."""


class Asked(OfflineResearcher):
    """Plays the offline search, and keeps what its agents were asked last."""

    def __init__(self) -> None:
        self.brief: Brief
        self.hypothesis: Hypothesis
        self.candidates: Sequence[tuple[Candidate, Expr]]
        self.told: Brief
        self.trials: list[Trial]

    def draft(self, brief: Brief, hypothesis: Hypothesis, count: int) -> list[Draft]:
        """As the offline search."""
        self.brief, self.hypothesis = brief, hypothesis
        return super().draft(brief, hypothesis, count)

    def judge(self, hypothesis: Hypothesis, candidates: Sequence[tuple[Candidate, Expr]]) -> list[Alignment | None]:
        """As the offline search."""
        if candidates[0][0].attempt == 0:
            self.candidates = candidates
        return super().judge(hypothesis, candidates)

    def reflect(self, brief: Brief, hypothesis: Hypothesis, trials: list[Trial]) -> Feedback:
        """As the offline search."""
        self.told, self.trials = brief, trials
        return super().reflect(brief, hypothesis, trials)

    def prompts_beside(self, library: tuple[Factor, ...], avoid: tuple[str, ...]) -> dict[str, Prompt]:
        """What language models would have been asked in the last round, by agent."""
        brief, told = (one.model_copy(update={"library": library, "avoid": avoid}) for one in (self.brief, self.told))
        refused = [_refused(candidate) for candidate, _ in self.candidates[:REWRITTEN]]
        return {
            "idea": questions.idea(brief),
            "factor": questions.factor(brief, self.hypothesis, CANDIDATES),
            "judge": questions.judge(self.hypothesis, self.candidates),
            "feedback": questions.feedback(told, self.hypothesis, self.trials),
            "revise": questions.revise(brief, self.hypothesis, refused),
        }


def _refused(candidate: Candidate) -> Trial:
    hint = "shares 9 nodes with Alpha#12: (-SIGN(DELTA($volume, 1)) * DELTA($close, 1)); change that part"
    check = Check(name="originality", value=9, limit=8, passed=False, hint=hint)
    return Trial(round=1, candidate=candidate, verdict=Verdict(candidate_id=candidate.id, checks=(check,), penalty=0.4))


def library(size: int) -> tuple[Factor, ...]:
    """So many factors of a team that mines what the offline search does."""
    draw = Random(size)  # noqa: S311 - a library that repeats
    splits = {split: _metrics(value) for split, value in (("train", 0.02), ("valid", 0.012))}
    return tuple(
        Factor(
            id=factor_id("demo", expr),
            market="demo",
            name=f"factor {number}",
            description=(theme := draw.choice(THEMES)).specification,
            formula=str(expr),
            hypothesis=theme.statement,
            run_id="r",
            snapshot="s",
            universe="all",
            horizon=1,
            penalty=0.3,
            splits=splits,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for number, expr in enumerate(drawn(draw, size))
    )


def _metrics(rank_ic: float) -> SplitMetrics:
    unknown = dict.fromkeys(("ic", "icir", "rank_icir", "t_stat", "rank_t_stat", "hit_rate", "turnover"))
    return SplitMetrics.model_validate({**unknown, "days": 250, "coverage": 1.0, "rank_ic": rank_ic})


def prompts() -> dict[int, dict[str, Prompt]]:
    """By the library's size and agent."""
    asked, market = Asked(), demo_market()
    with tempfile.TemporaryDirectory(prefix="alphaagent-prompts-") as folder:
        home = Path(folder)
        published(demo(market), home)
        with Records.open(f"sqlite:///{home / 'records.sqlite'}") as records:
            runner = SearchRunner(Settings(home=home), records, asked)
            budget = Budget(rounds=ROUNDS, candidates=CANDIDATES, seconds=86_400)
            request = RunRequest(direction=DIRECTION, market="demo", seed=7, model="offline", budget=budget)
            run = mine_here(runner, request)
            bench = runner.workbench(run, records.journal(run.id, "here"))
            found = {}
            for size in LIBRARIES:
                factors = library(size)
                avoid = replace(bench, library=factors).recurrent_parts(asked.brief.trials)
                found[size] = asked.prompts_beside(factors, avoid)
    return found


def counter() -> tuple[str, Callable[[str], int]]:
    """How tokens are counted, in words, and the count."""
    try:
        encoding = tiktoken.get_encoding(ENCODING)
    except OSError:
        return "estimated from above", tokens
    return f"of {ENCODING}", lambda text: len(encoding.encode(text))


def sizes(found: Mapping[int, Mapping[str, Prompt]], count: Callable[[str], int]) -> dict[int, dict[str, int]]:
    """Tokens by library and agent, the schema included; ``round`` is a round of one call each without a rewrite."""
    result = {}
    for size, by_agent in found.items():
        row = {
            agent: count(by_agent[agent].text) + count(json.dumps(request("json_schema", shape)[0]))
            for agent, shape in AGENTS.items()
        }
        result[size] = {"round": sum(row[agent] for agent in AGENTS if agent != "revise"), **row}
    return result


def page(found: Mapping[int, Mapping[str, Prompt]]) -> str:
    """The report, Markdown."""
    words, count = counter()
    counted = sizes(found, count)
    everything = [prompt.text for by_agent in found.values() for prompt in by_agent.values()]
    above = sum(map(tokens, everything)) / sum(map(count, everything))
    columns = list(next(iter(counted.values())))
    told = (
        f"Input tokens, {words}, of one round with {CANDIDATES} candidates on the demo market, by agent and by the "
        "number of factors in the team's library. *round* is a call each but for *revise*, which is asked where the "
        f"gate refused something. The estimate that budgets are checked by is {above:.2f} times as large."
    )
    rows = [[f"{size:,}", *(f"{row[name]:,}" for name in columns)] for size, row in counted.items()]
    parts = [
        "# What one round asks",
        "Generated by `python -m benchmarks.prompts`, which says in its first lines what is counted.",
        told,
        table(["factors in the library", *columns], rows),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Mine, count, write the report, print."""
    parser = argparse.ArgumentParser(description="Count the tokens of prompts.")
    parser.add_argument("--json", action="store_true", help="print figures rather than the table")
    chosen = parser.parse_args()
    found = prompts()
    text = page(found)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    sys.stdout.write(json.dumps(sizes(found, counter()[1]), indent=2) + "\n" if chosen.json else text)


if __name__ == "__main__":
    main()

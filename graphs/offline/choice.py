"""Which hypothesis of the library comes next, and which one a text is about."""

from random import Random

from factors.errors import ResearcherError
from factors.prose import stems
from graphs.offline.concepts import named
from graphs.offline.drafting import fresh
from graphs.offline.themes import THEMES, Theme, joined
from graphs.researcher import Brief

PATIENCE = 2
"""Rounds without support after which a direction is left, and only what has worked is refined."""

_DIRECTION_WEIGHT = 2.0
_UNTRIED = 0.5
_SLOW = 0.25  # what an untried theme loses whose horizon is beyond a week: labels are one-day returns
_WEEK = 5
_PER_VISIT = 0.25
_GOOD = 0.1


def choose(brief: Brief, draw: Random) -> Theme:
    """A new theme for this round, the next best one where other rounds begin together with it.

    The direction's words weigh most, less with every round that found no support; then an untried theme stands against
    the best fitness of a tried one, which loses a little with each visit; a draw breaks what is left.

    Raises:
        ResearcherError: no theme can be written with the market's columns.
    """
    last = nearest(brief.hypotheses[-1].statement) if brief.hypotheses else None
    open_themes = [theme for theme in THEMES if theme is not last and any(True for _ in fresh(theme, brief, draw))]
    if not open_themes:
        raise ResearcherError(f"expected a market with price columns, found only {', '.join(brief.fields)}")
    merits = _merits(brief)
    failures = sum(not feedback.supported for feedback in brief.feedback.values())
    guidance = _DIRECTION_WEIGHT * max(0.0, 1 - failures / PATIENCE)
    ranked = sorted(
        open_themes,
        key=lambda theme: (
            guidance * affinity(brief.direction, theme) + merits.get(theme.key, _prior(theme)) + draw.random() / 2
        ),
        reverse=True,
    )
    return ranked[min(brief.abreast, len(ranked) - 1)]


def _prior(theme: Theme) -> float:
    return _UNTRIED if theme.horizon_days <= _WEEK else _UNTRIED - _SLOW


def nearest(text: str) -> Theme:
    """The theme of this statement, or both of a crossed one, or else the one whose words are most like it."""
    told = [theme for theme in THEMES if theme.statement in text]
    if len(told) > 1:
        return joined(told[0], told[1])
    return told[0] if told else max(THEMES, key=lambda theme: affinity(text, theme))


def crossing(brief: Brief) -> Theme:
    """The theme of all that the round's ancestors claim."""
    return nearest(" ".join(hypothesis.statement for hypothesis in brief.ancestors))


def affinity(text: str, theme: Theme) -> float:
    """Share of the text's concepts that are the theme's, plus half the share of its words in the theme's statement."""
    concepts = named(text)
    words = stems(text)
    about = stems(f"{theme.title} {theme.statement} {' '.join(theme.concepts)}")
    by_concept = len(concepts & set(theme.concepts)) / len(concepts) if concepts else 0.0
    return by_concept + len(words & about) / len(words) / 2 if words else by_concept


def _merits(brief: Brief) -> dict[str, float]:
    """For each tried theme its best fitness against a good one, at most 1, less a quarter for each visit."""
    statements = {hypothesis.id: hypothesis.statement for hypothesis in brief.hypotheses}
    themes = {statement: nearest(statement).key for statement in statements.values()}
    merits = dict.fromkeys(themes.values(), 0.0)
    for trial in brief.trials:
        key = themes.get(statements.get(trial.candidate.hypothesis_id, ""))
        if key is not None:
            merits[key] = max(merits[key], min(trial.fitness / _GOOD, 1.0))
    for hypothesis in brief.hypotheses:
        merits[themes[hypothesis.statement]] -= _PER_VISIT
    return merits

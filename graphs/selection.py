"""What of a run and of the team's library models are told: a bounded selection, however much there is."""

from factors.hypothesis import Factor
from factors.prose import stems
from graphs.prompts import Words, quoted
from graphs.researcher import Brief, Trial
from graphs.summaries import outcome

_FACTORS, _TRIALS, _HYPOTHESES, _LESSONS = 5, 5, 5, 2
_SHORT, _LESSON = 100, 200  # characters
_DECAYED = 0.5  # share of the train rank IC that valid keeps of a factor that holds


def task(brief: Brief) -> Words:
    """What the round's hypothesis is to come from."""
    ancestors = "; ".join(quoted(hypothesis.statement) for hypothesis in brief.ancestors)
    focus = "; ".join(quoted(brief.feedback[name].focus) for name in brief.parents if name in brief.feedback)
    looking = f" Look at {focus}." if focus else ""
    if brief.move == "refine" and ancestors:
        return Words(f"sharpen this hypothesis by what it taught: {ancestors}.{looking}")
    if brief.move == "cross" and ancestors:
        return Words(f"join what works in these into one hypothesis: {ancestors}.{looking}")
    if brief.abreast:
        others = "others take" if brief.abreast > 1 else "other takes"
        return Words(f"{brief.abreast} {others} the most obvious readings of the direction just now: find another one.")
    return Words("a hypothesis unlike those explored already.")


def anchor(brief: Brief) -> Words:
    """The best candidate of the run that was measured, with its hypothesis."""
    measured = [trial for trial in brief.trials if trial.evaluation]
    if not measured:
        return Words("none yet")
    best = max(measured, key=lambda trial: (trial.accepted, trial.reward))
    statements = {hypothesis.id: hypothesis.statement for hypothesis in brief.hypotheses}
    return Words(f"{quoted(statements.get(best.candidate.hypothesis_id, ''))}: {outcome(best)}")


def explored(brief: Brief) -> Words:
    """The newest hypotheses."""
    return quoted([hypothesis.statement for hypothesis in brief.hypotheses[-_HYPOTHESES:]], _SHORT)


def lessons(brief: Brief) -> Words:
    """What the last rounds taught."""
    last = list(brief.feedback.values())[-_LESSONS:]
    told = [{"lesson": one.lesson, "next": one.focus} if one.focus else {"lesson": one.lesson} for one in last]
    return quoted(told, _LESSON)


def earlier(brief: Brief) -> list[Words]:
    """Trials of the run, those of this hypothesis' ancestors before others, the newest of the best first."""

    def merit(trial: Trial) -> tuple[bool, bool, float, int]:
        return trial.candidate.hypothesis_id in brief.parents, trial.accepted, trial.reward, trial.round

    return [outcome(trial) for trial in sorted(brief.trials, key=merit, reverse=True)[:_TRIALS]]


def library(brief: Brief) -> list[Words]:
    """Factors of the team whose words are most like the direction's and the last hypothesis', the newest of them."""
    wanted = stems(" ".join([brief.direction, *(hypothesis.statement for hypothesis in brief.ancestors)]))
    place = {factor.id: number for number, factor in enumerate(brief.library)}

    def likeness(factor: Factor) -> tuple[int, int]:
        return len(wanted & stems(f"{factor.name} {factor.description} {factor.hypothesis}")), place[factor.id]

    return [_factor(factor) for factor in sorted(brief.library, key=likeness, reverse=True)[:_FACTORS]]


def _factor(factor: Factor) -> Words:
    train, valid = (factor.splits[split].rank_ic or 0.0 for split in ("train", "valid"))
    mark = ", decayed" if valid < _DECAYED * train else ""
    return Words(f"{quoted(factor.formula, _SHORT)}: {train:.4f}, {valid:.4f}{mark}")

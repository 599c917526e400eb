"""The notebook of a run: the hypotheses, trials and lessons that its state names by id.

All of it stands in the run's records as well, from which a run that was cut off reads it again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

from factors.errors import MeasurementError
from factors.hypothesis import Feedback, Hypothesis
from graphs.researcher import Trial
from storage.events import CandidateFailed, Step
from storage.records import Records

_KINDS: Final = ("hypothesis.proposed", "round.completed", "agent.failed", "candidate.failed", "candidate.evaluated")


@dataclass(frozen=True, slots=True)
class Notebook:
    """What a run has found so far; nodes that go side by side may write to it.

    Attributes:
        hypotheses: by id.
        feedback: by the id of the hypothesis that it is of.
        trials: by the candidate's id.
        failures: what researchers that failed said, by the step in which they did.
        unmeasured: why candidates could not be measured or examined, by id and step.
        told: ids of candidates that had been measured, or could not be, when the run was cut off.
    """

    hypotheses: dict[str, Hypothesis] = field(default_factory=dict)
    feedback: dict[str, Feedback] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)
    unmeasured: dict[tuple[str, Step], str] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, records: Records, run_id: str) -> Self:
        """What the records hold of a run."""
        notebook = cls()
        for event in records.all_events(run_id, _KINDS):
            if event.type == "hypothesis.proposed":
                notebook.propose(Hypothesis.model_validate(event.data["hypothesis"]))
            elif event.type == "agent.failed":
                notebook.failures[event.data["step"]] = event.data["kind"], event.data["message"]
            elif event.type == "candidate.failed":
                failed = CandidateFailed.model_validate(event.data)
                notebook.unmeasured[failed.candidate_id, failed.step] = failed.checks[0].hint
                notebook.told.add(failed.candidate_id)
            elif event.type == "candidate.evaluated":
                notebook.told.add(event.data["evaluation"]["candidate_id"])
            elif event.data["feedback"]:
                lesson = Feedback.model_validate(event.data["feedback"])
                notebook.feedback[hypothesis_id(event.data["round"])] = lesson
        recorded, _ = records.candidates(run_id, limit=None)
        for one in recorded:
            shared = {name: getattr(one, name) for name in Trial.model_fields}
            notebook.keep(Trial.model_validate(shared))
        return notebook

    def propose(self, hypothesis: Hypothesis) -> None:
        """Take down a hypothesis."""
        self.hypotheses[hypothesis.id] = hypothesis

    def check_measurable(self, candidate_id: str, step: Step) -> None:
        """Raise the ``MeasurementError`` again that this step of a candidate ended with before the run was cut off."""
        if reason := self.unmeasured.get((candidate_id, step)):
            raise MeasurementError(reason)

    def keep(self, trial: Trial) -> None:
        """Take down a trial."""
        self.trials[trial.candidate.id] = trial

    def tried(self, ids: Iterable[str]) -> list[Trial]:
        """The trials of these ids, in order."""
        return [self.trials[one] for one in ids]


def hypothesis_id(number: int) -> str:
    """The id of a round's hypothesis."""
    return f"h{number}"

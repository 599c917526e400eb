"""The journal of a run that is worked on: its events, candidates, factors and model calls, each written once.

A run belongs to one executor at a time. Each step looks, in its own transaction, whether the run is still its
executor's: a process that was taken for dead and wakes up again changes nothing. What is told with a key is told once
however often it is said, so a step that was cut off can be taken again from its beginning.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, insert, select, update

from factors.evaluation import Evaluation
from factors.hypothesis import Candidate, Factor, Hypothesis
from factors.verdict import Check, Verdict
from storage import rows, schema, spending
from storage.engine import reading, writing
from storage.runs import Allowance, EventType, ModelCall, Run, RunStateError, TerminalStatus

_OWN_STEPS: Final = frozenset({"factor.accepted", "model.called"})  # which append their event themselves


class Journal:
    """What one executor writes of one run; thread-safe, each method one transaction.

    Every method raises ``NotFoundError`` for an unknown run, ``FencedError`` where the run is another executor's, and
    ``RunStateError`` where it has ended; an error changes nothing.
    """

    def __init__(self, engine: Engine, run_id: str, executor: str) -> None:
        self.run_id, self.executor = run_id, executor
        self._engine = engine

    def start(self) -> Run:
        """Turn a queued run into a running one of this executor's, with its ``run.started`` event."""
        with writing(self._engine) as connection:
            status = rows.lock(connection, self.run_id)
            if status != "queued":
                raise RunStateError(f"run {self.run_id} is {status}: only a queued run can start")
            rows.start(connection, self.run_id, self.executor)
            return rows.read_run(connection, self.run_id)

    def check(self) -> None:
        """See that the run is still this executor's."""
        with reading(self._engine) as connection:
            rows.check_fence(connection, self.run_id, self.executor)

    def append(self, type: EventType, data: dict[str, Any], key: str | None = None) -> None:  # noqa: A002
        """Tell an event; ``data`` may hold pydantic models. One whose key was told already is left as it was told.

        ``run.*``, ``factor.accepted`` and ``model.called`` are refused: the methods that make them true append them.
        """
        if type.startswith("run.") or type in _OWN_STEPS:
            raise RunStateError(f"{type} is appended by the step it tells of, not by itself")
        table = schema.events
        with self._step() as connection:
            told = select(table.c.seq).where(table.c.run_id == self.run_id, table.c.key == key)
            if key is None or connection.execute(told).one_or_none() is None:
                rows.append(connection, self.run_id, type, data, key)

    def record_trial(
        self,
        *,
        round: int,  # noqa: A002
        hypothesis: Hypothesis,
        candidate: Candidate,
        verdict: Verdict,
        evaluation: Evaluation | None,
        admission: Sequence[Check],
    ) -> None:
        """Save a candidate and what became of it; one that the run has already recorded stays as it is."""
        table = schema.candidates
        with self._step() as connection:
            known = select(table.c.id).where(table.c.run_id == self.run_id, table.c.id == candidate.id)
            if connection.execute(known).one_or_none() is not None:
                return
            connection.execute(
                insert(table).values(
                    run_id=self.run_id,
                    position=rows.count_on(connection, table.c.position, self.run_id),
                    round=round,
                    hypothesis=hypothesis.statement,
                    verdict=verdict,
                    admission=tuple(admission),
                    accepted=evaluation is not None and all(check.passed for check in admission),
                    **candidate.model_dump(),
                )
            )
            if evaluation is not None:
                connection.execute(insert(schema.evaluations).values(run_id=self.run_id, **evaluation.model_dump()))

    def accept_factor(self, factor: Factor) -> bool:
        """Link the factor to the run, with a ``factor.accepted`` event; True when it is new to the library.

        The event's data is ``{"factor": ..., "new": ...}``. A factor that the library has stays as it is; one
        that the run has already accepted changes nothing.
        """
        if factor.run_id != self.run_id:
            raise RunStateError(f"factor {factor.id} is of run {factor.run_id}, not of {self.run_id}")
        links = schema.run_factors
        with self._step() as connection:
            linked = select(links.c.position).where(links.c.run_id == self.run_id, links.c.factor_id == factor.id)
            if connection.execute(linked).one_or_none() is not None:
                return False
            new = rows.add_factor(connection, factor)
            position = rows.count_on(connection, links.c.position, self.run_id)
            connection.execute(insert(links).values(run_id=self.run_id, factor_id=factor.id, position=position))
            rows.append(connection, self.run_id, "factor.accepted", {"factor": factor, "new": new})
            return new

    def begin_evaluation(self, candidate_id: str, allowance: Allowance) -> bool:
        """Count a candidate's evaluation before it is made, once; False where its user has no room for it."""
        if allowance.evaluations is None:
            return True
        with self._step() as connection:
            return spending.begin_evaluation(connection, self.run_id, candidate_id, allowance)

    def begin_call(self, call: ModelCall, allowance: Allowance) -> int:
        """Save a model call with the estimate of what it takes, which counts until it ends; its number in the run.

        Raises:
            SpentError: it could pass a limit of the run, or of its user.
        """
        table = schema.model_calls
        with self._step() as connection:
            spending.check_room(connection, self.run_id, call, allowance)
            position = rows.count_on(connection, table.c.position, self.run_id)
            connection.execute(insert(table).values(run_id=self.run_id, position=position, **call.model_dump()))
            return position

    def end_call(self, position: int, call: ModelCall) -> None:
        """Save what a model call took and said, with its ``model.called`` event, which leaves out the answer."""
        table = schema.model_calls
        with self._step() as connection:
            at = (table.c.run_id == self.run_id) & (table.c.position == position)
            connection.execute(update(table).where(at).values(call.model_dump()))
            rows.append(connection, self.run_id, "model.called", {"call": call.model_dump(exclude={"answer"})})

    def answer(self, step: str, prompt: str) -> str | None:
        """What a model has said when the run asked this before, ``None`` where nothing was said."""
        table = schema.model_calls
        at = (table.c.run_id == self.run_id) & (table.c.step == step) & (table.c.prompt == prompt)
        query = select(table.c.answer).where(at, table.c.failure.is_(None)).order_by(table.c.position.desc()).limit(1)
        with reading(self._engine) as connection:
            return connection.scalar(query)

    def work(self, seconds: float) -> None:
        """Count time that was worked on the run."""
        with self._step() as connection:
            rows.change(connection, self.run_id, seconds=schema.runs.c.seconds + seconds)

    def finish(
        self, status: TerminalStatus, error: str | None = None, stopped: str | None = None, seconds: float = 0.0
    ) -> Run:
        """End the run, on which so long was worked since it was last counted, with its terminal event.

        The event tells what ``stopped`` it, as ``reason``: ``budget`` where that is a limit other than the rounds.
        """
        with self._step() as connection:
            rows.change(connection, self.run_id, seconds=schema.runs.c.seconds + seconds)
            return rows.finish(connection, self.run_id, status, error, stopped)

    @contextmanager
    def _step(self) -> Iterator[Connection]:
        with writing(self._engine) as connection:
            rows.lock_open(connection, self.run_id)
            rows.check_fence(connection, self.run_id, self.executor)
            yield connection

"""Model calls on a run's account: begun where there is room for them, and never paid for twice."""

import threading
import time
from collections.abc import Callable
from math import ceil

from factors.errors import AlphaAgentError, ResearcherError
from storage.journal import Journal
from storage.runs import Allowance, ModelCall, SpentError

_POLL_SECONDS = 0.1
_CHARACTERS_A_TOKEN = 2.5  # fewer than in any ASCII text that we send; see benchmarks/prompts.md


def tokens(text: str) -> int:
    """How many tokens a text has at most: one for each byte but ASCII characters, of which two and a half make one."""
    ascii_characters = sum(character.isascii() for character in text)
    return ceil(ascii_characters / _CHARACTERS_A_TOKEN) + len(text.encode(errors="replace")) - ascii_characters


def _never() -> bool:
    return False


class Meter:
    """Keeps the account of one run's model calls in its journal, so that it outlives the process; thread-safe.

    Args:
        journal: of the run.
        allowance: what its user may spend.
        deadline: ``time.monotonic()`` in seconds after which no call begins.
        cancelled: whether somebody asked to stop the run; raises where its process is about to end.
    """

    def __init__(
        self,
        journal: Journal,
        allowance: Allowance | None = None,
        deadline: float = float("inf"),
        cancelled: Callable[[], bool] = _never,
    ) -> None:
        self.run_id = journal.run_id
        self._journal, self._allowance = journal, allowance or Allowance()
        self._deadline, self._cancelled, self._spent = deadline, cancelled, ""
        self._ended, self._under_way = threading.Condition(), 0

    @property
    def spent(self) -> str:
        """The limit that a call could have passed, empty while there has been room."""
        return self._spent

    @property
    def seconds(self) -> float:
        """Time that the run has left."""
        return self._deadline - time.monotonic()

    def check(self) -> None:
        """``ResearcherError`` of kind ``interrupted`` where the run was cancelled; what else stops it is raised."""
        if self._cancelled():
            raise ResearcherError("the run was cancelled", "interrupted")

    def is_stopped(self) -> bool:
        """Whether the run shall end, or stop where it stands."""
        try:
            return self._cancelled()
        except AlphaAgentError:
            return True

    def sleep(self, seconds: float) -> None:
        """Wait between two tries; raises what :meth:`check` does meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, _POLL_SECONDS))

    def answer(self, step: str, prompt: str) -> str | None:
        """What the run has been answered to this question before it was cut off, if it was."""
        return self._journal.answer(step, prompt)

    def begin(self, call: ModelCall, deadline: float) -> int:
        """Let a call begin, for which its estimate counts until it ends; its number.

        Where the estimates of calls under way leave no room it waits for one of them to end, until its deadline.

        Raises:
            ResearcherError: of kind ``budget``, where it could pass a limit; of kind ``interrupted``, where the run was
                cancelled.
        """
        with self._ended:
            while True:
                self.check()
                try:
                    number = self._journal.begin_call(call, self._allowance)
                except SpentError as error:
                    left = deadline - time.monotonic()
                    if self._under_way and left > 0:
                        self._ended.wait(min(left, 1.0))
                        continue
                    self._spent = error.limit
                    raise ResearcherError(str(error), "budget") from error
                self._under_way += 1
                return number

    def end(self, number: int, call: ModelCall) -> None:
        """Count a call that has ended."""
        with self._ended:
            self._under_way -= 1
            self._ended.notify_all()
            self._journal.end_call(number, call)

"""Model calls on a run's account: begun where there is room for them, and never paid for twice."""

import time
from math import ceil

from factors.errors import ResearcherError
from storage.records import Records
from storage.runs import Allowance, ModelCall, SpentError

_CHARACTERS_A_TOKEN = 2.5  # fewer than in any ASCII text that we send; see benchmarks/prompts.md


def tokens(text: str) -> int:
    """How many tokens a text has at most: one for each character but ASCII ones, of which two and a half make one."""
    ascii_characters = sum(character.isascii() for character in text)
    return ceil(ascii_characters / _CHARACTERS_A_TOKEN) + len(text.encode()) - ascii_characters


class Meter:
    """Keeps the account of one run's model calls in the records, so that it outlives the process.

    Args:
        records: where calls are kept.
        run_id: of the run.
        allowance: what its user may spend.
        deadline: ``time.monotonic()`` in seconds after which no call begins.
    """

    def __init__(
        self, records: Records, run_id: str, allowance: Allowance | None = None, deadline: float = float("inf")
    ) -> None:
        self._records, self.run_id = records, run_id
        self._allowance, self._deadline, self._spent = allowance or Allowance(), deadline, ""

    @property
    def spent(self) -> str:
        """The limit that a call could have passed, empty while there has been room."""
        return self._spent

    @property
    def seconds(self) -> float:
        """Time that the run has left."""
        return self._deadline - time.monotonic()

    def answer(self, step: str, prompt: str) -> str | None:
        """What the run has been answered to this question before it was cut off, if it was."""
        return self._records.answer(self.run_id, step, prompt)

    def begin(self, call: ModelCall) -> int:
        """Let a call begin, for which its estimate counts until it ends; its number.

        Raises:
            ResearcherError: of kind ``budget``, where it could pass a limit.
        """
        try:
            return self._records.begin_call(self.run_id, call, self._allowance)
        except SpentError as error:
            self._spent = error.limit
            raise ResearcherError(str(error), "budget") from error

    def end(self, number: int, call: ModelCall) -> None:
        """Count a call that has ended."""
        self._records.end_call(self.run_id, number, call)

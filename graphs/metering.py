"""What a run's model calls may cost: asked before each call, told after it."""

from collections.abc import Callable

from factors.errors import ResearcherError
from storage.runs import Budget, ModelCall

CHARACTERS_A_TOKEN = 3  # fewer than in any text that we send, so that a call is not begun that the budget cannot pay


class Meter:
    """Counts the calls of one run against its budget.

    Args:
        budget: the run's.
        told: called with each call once it has ended.
    """

    def __init__(self, budget: Budget, told: Callable[[ModelCall], object]) -> None:
        self._budget, self._told = budget, told
        self._calls, self._input_tokens, self._output_tokens, self._spent = 0, 0, 0, ""

    @property
    def spent(self) -> str:
        """The limit that a call could have passed, after which there is none; empty while there has been room."""
        return self._spent

    def allow(self, prompt: str) -> None:
        """Let a call begin.

        Raises:
            ResearcherError: of kind ``budget``, where it could pass a limit.
        """
        budget, estimate = self._budget, -(-len(prompt) // CHARACTERS_A_TOKEN)
        room = {
            "model_calls": budget.model_calls - self._calls - 1,
            "input_tokens": budget.input_tokens - self._input_tokens - estimate,
            "output_tokens": budget.output_tokens - self._output_tokens - 1,
        }
        self._spent = self._spent or next((name for name, left in room.items() if left < 0), "")
        if self._spent:
            raise ResearcherError(f"the budget has no room for another call: {self._spent}", "budget")

    def add(self, call: ModelCall) -> None:
        """Count a call that has ended."""
        self._calls += 1
        self._input_tokens += call.input_tokens
        self._output_tokens += call.output_tokens
        self._told(call)

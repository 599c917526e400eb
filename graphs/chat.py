"""One question to a chat model behind an OpenAI-compatible endpoint, answered in a shape or with a typed failure."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from langchain_core.exceptions import LangChainException
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    OpenAIError,
)
from pydantic import SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from factors.errors import FailureKind, ResearcherError
from graphs.answers import METHODS, Answer, Method, read, request, text_of
from graphs.metering import Meter
from graphs.prompts import render
from graphs.transport import AnswerTooLargeError, BoundedTransport
from storage.runs import ModelCall

_BY_STATUS: Mapping[int, FailureKind] = {
    401: "authentication",
    403: "permission",
    404: "unknown_model",
    429: "rate_limit",
}
_PASSING = frozenset({"rate_limit", "server", "connection"})
_NO_SUCH_METHOD = frozenset({400, 422})  # how endpoints answer a way of asking that they lack
_SHOWN = 4000  # characters of an answer that did not fit, when it is shown to the model again
_SERVER_FAULTS = 500

_methods: dict[tuple[str | None, str], Method] = {}  # what worked, by endpoint and model


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model answers.

    Attributes:
        model: its name there.
        api_key: what to show for it.
        base_url: the endpoint; the client's own default where it is ``None``.
        temperature: how freely it draws; not sent where it is ``None``, as some models take none.
        seconds: that an answer may take.
        attempts: tries where a fault may pass.
        backoff: seconds before the second try, on average; twice as long before each further one.
    """

    model: str
    api_key: SecretStr
    base_url: str | None = None
    temperature: float | None = None
    seconds: float = 120
    attempts: int = 3
    backoff: float = 1.0


class Chat:
    """Asks one model.

    Args:
        endpoint: where.
        meter: counts the calls, and says when they must end.
    """

    def __init__(self, endpoint: Endpoint, meter: Meter) -> None:
        self._endpoint, self._meter = endpoint, meter
        self._client = ChatOpenAI(
            model=endpoint.model,
            api_key=endpoint.api_key,
            base_url=endpoint.base_url,
            temperature=endpoint.temperature,
            timeout=endpoint.seconds,
            max_retries=0,
            http_client=httpx2.Client(transport=BoundedTransport(endpoint.seconds)),
        )

    def ask(self, agent: str, prompt: str, shape: type[Answer]) -> Answer:
        """An answer of that shape; one that does not fit is shown to the model once, with what is wrong with it.

        Raises:
            ResearcherError: there is none.
        """
        text = self._answer(agent, prompt, shape)
        try:
            return read(text, shape)
        except ResearcherError as error:
            again = render("repair", prompt=prompt, answer=text[:_SHOWN], fault=error)
        return read(self._answer("repair", again, shape), shape)

    def _answer(self, agent: str, prompt: str, shape: type[Answer]) -> str:
        """What the model says, asked in the strictest way that the endpoint knows."""
        place = self._endpoint.base_url, self._endpoint.model
        first = METHODS.index(_methods.get(place, METHODS[0]))
        for method in METHODS[first:]:
            try:
                text = self._called(agent, prompt, method, shape)
            except ResearcherError as error:
                cause = error.__cause__
                unknown = isinstance(cause, APIStatusError) and cause.status_code in _NO_SUCH_METHOD
                if not unknown or method == METHODS[-1]:
                    raise
            else:
                _methods[place] = method
                return text
        raise AssertionError("the last way of asking returns or raises")

    def _called(self, agent: str, prompt: str, method: Method, shape: type[Answer]) -> str:
        arguments, added = request(method, shape)
        self._meter.allow(prompt + added + json.dumps(arguments))
        started, message, failure = time.monotonic(), None, None
        try:
            message = self._patiently(prompt + added, arguments)
            return text_of(message)
        except ResearcherError as error:
            failure = error.kind
            raise
        finally:
            usage = (message.usage_metadata if message else None) or {"input_tokens": 0, "output_tokens": 0}
            self._meter.add(
                ModelCall(
                    agent=agent,
                    model=self._endpoint.model,
                    prompt=hashlib.sha256(prompt.encode()).hexdigest()[:16],
                    method=method,
                    input_tokens=usage["input_tokens"],
                    output_tokens=usage["output_tokens"],
                    seconds=time.monotonic() - started,
                    failure=failure,
                )
            )

    def _patiently(self, prompt: str, arguments: dict[str, Any]) -> AIMessage:
        """The message, tried again where a fault may pass, and as long as the call has time."""
        until = time.monotonic() + self._endpoint.seconds
        drawn = wait_random_exponential(multiplier=self._endpoint.backoff, max=self._endpoint.seconds)

        def pause(state: RetryCallState) -> float:
            return max(drawn(state), _asked_for(state.outcome.exception() if state.outcome else None))

        def is_over(state: RetryCallState) -> bool:
            return tries(state) or time.monotonic() + state.upcoming_sleep > until

        tries = stop_after_attempt(self._endpoint.attempts)
        retry = retry_if_exception(lambda error: isinstance(error, ResearcherError) and error.kind in _PASSING)
        return Retrying(stop=is_over, wait=pause, retry=retry, reraise=True)(self._once, prompt, arguments)

    def _once(self, prompt: str, arguments: dict[str, Any]) -> AIMessage:
        try:
            message = self._client.invoke(prompt, **arguments)
        # A body that is no chat completion surprises the client in ways that it does not document.
        except (OpenAIError, LangChainException, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise self._failure(error) from error
        if not isinstance(message, AIMessage):
            raise ResearcherError("the endpoint answered with something else than a message", "malformed")
        return message

    def _failure(self, error: Exception) -> ResearcherError:
        words = " ".join(str(error).replace(self._endpoint.api_key.get_secret_value(), "***").split())[:300]
        return ResearcherError(f"model {self._endpoint.model} failed ({type(error).__name__}): {words}", _kind(error))


def _kind(error: Exception) -> FailureKind:
    if isinstance(error, APITimeoutError):
        return "timeout"
    if isinstance(error, APIConnectionError):
        return "too_large" if any(isinstance(cause, AnswerTooLargeError) for cause in _causes(error)) else "connection"
    if isinstance(error, APIStatusError):
        fault: FailureKind = "server" if error.status_code >= _SERVER_FAULTS else "request"
        return _BY_STATUS.get(error.status_code, fault)
    if isinstance(error, ContentFilterFinishReasonError):
        return "content_filter"
    return "truncated" if isinstance(error, LengthFinishReasonError) else "malformed"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _asked_for(error: BaseException | None) -> float:
    """Seconds that the endpoint wants to be left alone."""
    cause = error.__cause__ if error else None
    asked = cause.response.headers.get("retry-after", "") if isinstance(cause, APIStatusError) else ""
    return float(asked) if asked.isdecimal() else 0.0

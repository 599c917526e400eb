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
    APIError,
    APIStatusError,
    APITimeoutError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    OpenAIError,
)
from pydantic import BaseModel, SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from factors.errors import FailureKind, ResearcherError
from graphs.answers import METHODS, Answer, Method, read, request, text_of
from graphs.endpoint import Endpoint
from graphs.metering import Meter, tokens
from graphs.prompts import Prompt, Words, quoted, render
from graphs.transport import AnswerTooLargeError, BoundedTransport
from storage.runs import ModelCall

_BY_STATUS: Mapping[int, FailureKind] = {
    401: "authentication",
    403: "permission",
    404: "unknown_model",
    429: "rate_limit",
}
_BY_TYPE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], FailureKind], ...] = (
    ((APITimeoutError, httpx2.TimeoutException), "timeout"),
    ((APIConnectionError, httpx2.TransportError), "connection"),
    (APIError, "server"),  # told in the middle of a stream
    (ContentFilterFinishReasonError, "content_filter"),
    (LengthFinishReasonError, "truncated"),
)
_PASSING = frozenset({"rate_limit", "server", "connection"})
_PERHAPS_PAID = frozenset(
    {"timeout", "too_large", "malformed", "truncated", "interrupted"}
)  # a model may have worked all the same
_REFUSED = frozenset({400, 422})  # how endpoints answer an argument or a way of asking that they lack
_OPTIONAL = ("temperature", "max_completion_tokens", "stream_options")  # arguments that some models do not take
_SHOWN = 4000  # characters of an answer that did not fit, when it is shown to the model again
_SERVER_FAULTS = 500


@dataclass(slots=True)
class _Known:
    """What has been found out about a model: the way of asking that it takes, and arguments that it does not."""

    method: Method = METHODS[0]
    without: frozenset[str] = frozenset()


_known: dict[tuple[str | None, str], _Known] = {}  # by endpoint and model


class Chat:
    """Asks one model.

    Args:
        endpoint: where; its key is set.
        meter: lets calls begin, counts them, and knows what was answered before.
        repairer: who puts answers right that do not fit; the same model where it is ``None``.
    """

    def __init__(self, endpoint: Endpoint, meter: Meter, repairer: "Chat | None" = None) -> None:
        self.endpoint, self._meter, self._repairer = endpoint, meter, repairer or self
        self._key = endpoint.api_key or SecretStr("")
        self._client = ChatOpenAI(
            model=endpoint.name,
            api_key=self._key,
            base_url=endpoint.base_url,
            max_retries=0,
            streaming=endpoint.stream,
            http_client=httpx2.Client(transport=BoundedTransport()),
        )

    def ask(self, step: str, agent: str, prompt: Prompt, shape: type[Answer]) -> Answer:
        """An answer of that shape; one that does not fit is shown to a model once, with what is wrong with it.

        What this step of the run has been answered before is not asked again.

        Raises:
            ResearcherError: there is none.
        """
        text = self.answer(step, agent, prompt, shape)
        try:
            return read(text, shape)
        except ResearcherError as error:
            shown = quoted(text, _SHOWN)
            again = render("repair", prompt=Words(prompt.text), answer=shown, fault=quoted(str(error)))
        return read(self._repairer.answer(f"{step} repair", "repair", again, shape), shape)

    def answer(self, step: str, agent: str, prompt: Prompt, shape: type[BaseModel]) -> str:
        """What the model says, asked in the strictest way that the endpoint knows; it may not fit the shape.

        Raises:
            ResearcherError: it says nothing.
        """
        told = self._meter.answer(step, prompt.hash)
        if told is not None:
            return told
        known = _known.setdefault((self.endpoint.base_url, self.endpoint.name), _Known())
        deadline = time.monotonic() + min(self.endpoint.timeout, max(self._meter.seconds, 0.0))
        while True:
            method, without = known.method, known.without
            arguments, added = request(method, shape)
            arguments |= self._options(without)
            call = self._call(step, agent, prompt, method, prompt.text + added + json.dumps(arguments))
            try:
                return self._counted(call, prompt.text + added, arguments, deadline)
            except ResearcherError as error:
                cause = error.__cause__
                if not (isinstance(cause, APIStatusError) and cause.status_code in _REFUSED):
                    raise
                named = {name for name in _OPTIONAL if name in arguments and name in str(cause)}
                if named:
                    known.without = without | named
                elif method != METHODS[-1]:
                    known.method = METHODS[METHODS.index(method) + 1]
                else:
                    known.method = METHODS[0]
                    raise

    def _options(self, without: frozenset[str]) -> dict[str, Any]:
        options: dict[str, Any] = {
            "temperature": self.endpoint.temperature,
            "max_completion_tokens": self.endpoint.max_output_tokens,
            "stream_options": {"include_usage": True} if self.endpoint.stream else None,
        }
        return {name: value for name, value in options.items() if value is not None and name not in without}

    def _call(self, step: str, agent: str, prompt: Prompt, method: Method, sent: str) -> ModelCall:
        """The call as it is expected to be: the most that it can take."""
        input_tokens, output_tokens = tokens(sent), self.endpoint.max_output_tokens
        return ModelCall(
            step=step,
            agent=agent,
            model=self.endpoint.name,
            template=prompt.version,
            prompt=prompt.hash,
            method=method,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            usd=self.endpoint.usd(input_tokens, output_tokens),
        )

    def _counted(self, call: ModelCall, prompt: str, arguments: dict[str, Any], deadline: float) -> str:
        """What the model says; the meter is asked before and told after."""
        number, started = self._meter.begin(call), time.monotonic()
        # A gateway that knows the header answers a call that is sent twice, as after a crash, but works once.
        key = hashlib.sha256(f"{self._meter.run_id} {call.step} {call.prompt} {call.method}".encode()).hexdigest()
        arguments = {**arguments, "extra_headers": {"Idempotency-Key": key}}
        message: AIMessage | None = None
        failure: FailureKind | None = "interrupted"
        answer = None
        try:
            message = self._patiently(prompt, arguments, deadline)
            answer = text_of(message, streamed=self.endpoint.stream)
        except ResearcherError as error:
            failure = error.kind
            raise
        else:
            failure = None
            return answer
        finally:
            spent = self._spent(call, message, failure)
            ended = {"seconds": time.monotonic() - started, "failure": failure, "answer": answer, **spent}
            self._meter.end(number, call.model_copy(update=ended))

    def _spent(self, call: ModelCall, message: AIMessage | None, failure: FailureKind | None) -> dict[str, object]:
        """Tokens as the endpoint counts them; where it does not, what they can be at most."""
        usage = message.usage_metadata if message else None
        if usage:
            spent = usage["input_tokens"], usage["output_tokens"]
        elif message:
            spent = call.input_tokens, tokens(str(message.content) + json.dumps(message.tool_calls))
        else:
            spent = (call.input_tokens, call.output_tokens) if failure in _PERHAPS_PAID else (0, 0)
        return {"input_tokens": spent[0], "output_tokens": spent[1], "usd": self.endpoint.usd(*spent)}

    def _patiently(self, prompt: str, arguments: dict[str, Any], deadline: float) -> AIMessage:
        """The message, tried again where a fault may pass, and as long as there is time."""
        drawn = wait_random_exponential(multiplier=self.endpoint.backoff, max=self.endpoint.timeout)

        def pause(state: RetryCallState) -> float:
            return max(drawn(state), _asked_for(state.outcome.exception() if state.outcome else None))

        def is_over(state: RetryCallState) -> bool:
            return tries(state) or time.monotonic() + state.upcoming_sleep > deadline

        tries = stop_after_attempt(self.endpoint.attempts)
        retry = retry_if_exception(lambda error: isinstance(error, ResearcherError) and error.kind in _PASSING)
        return Retrying(stop=is_over, wait=pause, retry=retry, reraise=True)(self._once, prompt, arguments, deadline)

    def _once(self, prompt: str, arguments: dict[str, Any], deadline: float) -> AIMessage:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ResearcherError(f"model {self.endpoint.name} had no time left to answer", "timeout")
        try:
            message = self._client.invoke(prompt, timeout=left, **arguments)
        # A body that is no chat completion surprises the client in ways that it does not document.
        except (
            OpenAIError,
            LangChainException,
            httpx2.TransportError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            IndexError,
        ) as error:
            raise self._failure(error) from error
        if not isinstance(message, AIMessage):
            raise ResearcherError("the endpoint answered with something else than a message", "malformed")
        return message

    def _failure(self, error: Exception) -> ResearcherError:
        words = " ".join(str(error).replace(self._key.get_secret_value(), "***").split())[:300]
        return ResearcherError(f"model {self.endpoint.name} failed ({type(error).__name__}): {words}", _kind(error))


def _kind(error: Exception) -> FailureKind:
    if any(isinstance(cause, AnswerTooLargeError) for cause in _causes(error)):
        return "too_large"
    if isinstance(error, APIStatusError):
        fault: FailureKind = "server" if error.status_code >= _SERVER_FAULTS else "request"
        return _BY_STATUS.get(error.status_code, fault)
    return next((kind for types, kind in _BY_TYPE if isinstance(error, types)), "malformed")


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

"""One question to a chat model behind an OpenAI-compatible endpoint, answered in a shape or with a typed failure."""

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx2
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from factors.errors import ResearcherError
from factors.prose import on_one_line
from graphs.answers import LONGEST_FAULT, METHODS, Answer, Method, in_words, read, request, text_of
from graphs.endpoint import Endpoint
from graphs.failures import SURPRISES, asked_for, kind_of, lacking, perhaps_paid
from graphs.metering import Meter, tokens
from graphs.prompts import Prompt, Words, quoted, render
from graphs.transport import BoundedTransport
from storage.runs import ModelCall

_PASSING = frozenset({"rate_limit", "server", "connection"})
_SHOWN = 4000  # characters of an answer that did not fit, when it is shown to a model again
_STRIKES = 2  # answers without any object, one after the other, after which a way of asking is taken to be ignored
_MOST_TOKENS = 10_000_000  # that one call can have used; an endpoint that counts more counts wrongly


@dataclass(slots=True)
class _Known:
    """What has been found out about a model: the way of asking that it takes, and arguments that it does not."""

    method: Method = METHODS[0]
    without: frozenset[str] = frozenset()
    strikes: int = 0


_OPENAI = "https://api.openai.com/v1"  # the client would take an empty variable of its environment for an address
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
        self._known = _known.setdefault((endpoint.base_url, endpoint.name), _Known())
        self._client = ChatOpenAI(
            model=endpoint.name,
            api_key=self._key,
            base_url=endpoint.base_url or _OPENAI,
            max_retries=0,
            http_client=httpx2.Client(
                transport=BoundedTransport(meter.is_stopped),
                # An answer that is packed could be a thousand times as large as what the transport has counted.
                headers={"Accept-Encoding": "identity"},
            ),
        )

    def ask(self, step: str, agent: str, prompt: Prompt, shape: type[Answer]) -> Answer:
        """An answer of that shape; one that does not fit is shown to a model once, with what is wrong with it.

        What this step of the run has been answered before is not asked again.

        Raises:
            ResearcherError: there is none.
        """
        text = self.answer(step, agent, prompt, shape)
        try:
            found = read(text, shape)
        except ResearcherError as error:
            self._strike(error)
            fault = error
        else:
            self._known.strikes = 0
            return found
        again = render(
            "repair",
            prompt=Words(prompt.text),
            answer=quoted(text, _SHOWN),
            fault=quoted(str(fault), LONGEST_FAULT),
            shape=Words(in_words(shape)),
        )
        return read(self._repairer.answer(f"{step} repair", "repair", again, shape), shape)

    def _strike(self, error: ResearcherError) -> None:
        """An endpoint may take a format and never heed it: then the next way of asking has its turn."""
        self._known.strikes += error.kind == "malformed"
        if self._known.strikes >= _STRIKES:
            self._known.method, self._known.strikes = _weaker(self._known.method), 0

    def answer(self, step: str, agent: str, prompt: Prompt, shape: type[BaseModel]) -> str:
        """What the model says, asked in the strictest way that the endpoint knows; it may not fit the shape.

        Raises:
            ResearcherError: it says nothing.
        """
        told = self._meter.answer(step, prompt.hash)
        if told is not None:
            return told
        deadline = time.monotonic() + min(self.endpoint.timeout, max(self._meter.seconds, 0.0))
        method, without = self._known.method, self._known.without
        while True:
            arguments, added = request(method, shape)
            arguments = self._with_options(arguments, without)
            call = self._call(step, agent, prompt, method, prompt.text + added + json.dumps(arguments))
            try:
                text = self._patiently(call, prompt.text + added, arguments, deadline)
            except ResearcherError as error:
                lacked = lacking(error.__cause__, arguments)
                if lacked is None or (not lacked and method == METHODS[-1]):
                    raise
                method, without = method if lacked else _weaker(method), without | lacked
            else:
                # Only what has worked is remembered: a request may be refused for what is wrong with itself alone.
                self._known.method, self._known.without = method, without
                return text

    def _with_options(self, arguments: dict[str, Any], without: frozenset[str]) -> dict[str, Any]:
        options: dict[str, Any] = {
            "temperature": self.endpoint.temperature,
            "max_completion_tokens": self.endpoint.max_output_tokens,
            "stream_options": {"include_usage": True} if self.endpoint.stream else None,
        }
        given = {name: value for name, value in options.items() if value is not None and name not in without}
        body = dict(arguments.get("extra_body", {}))
        if "max_completion_tokens" in without and "max_tokens" not in without:
            body["max_tokens"] = self.endpoint.max_output_tokens  # the client would rename it
        return {**arguments, **given, **({"extra_body": body} if body else {})}

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

    def _patiently(self, call: ModelCall, prompt: str, arguments: dict[str, Any], deadline: float) -> str:
        """What the model says, tried again where a fault may pass, and as long as there is time."""
        # A gateway that knows the header answers a call that is sent twice, as after a crash, but works once.
        body = json.dumps([self._meter.run_id, call.step, call.prompt, arguments], sort_keys=True)
        key = hashlib.sha256(body.encode()).hexdigest()
        arguments = {**arguments, "extra_headers": {"Idempotency-Key": key}}
        drawn = wait_random_exponential(multiplier=2 * self.endpoint.backoff, max=self.endpoint.timeout)

        def pause(state: RetryCallState) -> float:
            return max(drawn(state), asked_for(state.outcome.exception() if state.outcome else None))

        def is_over(state: RetryCallState) -> bool:
            return tries(state) or time.monotonic() + state.upcoming_sleep > deadline

        tries = stop_after_attempt(self.endpoint.attempts)
        retry = retry_if_exception(lambda error: isinstance(error, ResearcherError) and error.kind in _PASSING)
        retrying = Retrying(stop=is_over, wait=pause, retry=retry, sleep=self._meter.sleep, reraise=True)
        return retrying(self._counted, call, prompt, arguments, deadline)

    def _counted(self, call: ModelCall, prompt: str, arguments: dict[str, Any], deadline: float) -> str:
        """What the model says to one request; the meter is asked before and told after."""
        if time.monotonic() >= deadline:
            raise ResearcherError(f"model {self.endpoint.name} had no time left to answer", "timeout")
        number, started = self._meter.begin(call, deadline), time.monotonic()
        ended = call
        try:
            message, usage = self._message(prompt, arguments, deadline)
            ended = call.model_copy(update=self._spent(call, message, usage))
            answer = text_of(message, streamed=self.endpoint.stream)
            ended = ended.model_copy(update={"failure": None, "answer": answer})
        except ResearcherError as error:
            paid = (
                {} if ended is not call or perhaps_paid(error) else {"input_tokens": 0, "output_tokens": 0, "usd": 0.0}
            )
            # Whoever stops the run has cut the call, which is no failure of the model's.
            kind = "interrupted" if self._meter.is_stopped() else error.kind
            ended = ended.model_copy(update={"failure": kind, **paid})
            self._meter.check()
            raise
        else:
            return answer
        finally:
            self._meter.end(number, ended.model_copy(update={"seconds": time.monotonic() - started}))

    def _spent(self, call: ModelCall, message: AIMessage, usage: UsageMetadata | None) -> dict[str, object]:
        """Tokens as the endpoint counts them; where it does not, or not credibly, as they can be at most."""
        if usage and 0 < usage["input_tokens"] < _MOST_TOKENS and 0 <= usage["output_tokens"] < _MOST_TOKENS:
            spent = usage["input_tokens"], usage["output_tokens"]
        else:
            said = tokens(str(message.content) + json.dumps(message.additional_kwargs, default=str))
            spent = call.input_tokens, max(said, tokens(json.dumps(message.tool_calls)))
        return {"input_tokens": spent[0], "output_tokens": spent[1], "usd": self.endpoint.usd(*spent)}

    def _message(
        self, prompt: str, arguments: dict[str, Any], deadline: float
    ) -> tuple[AIMessage, UsageMetadata | None]:
        """The message, and its usage as it was told last."""
        timeout = max(deadline - time.monotonic(), 0.001)
        try:
            if not self.endpoint.stream:
                message = self._client.invoke(prompt, timeout=timeout, **arguments)
                return message, message.usage_metadata
            pieces = list(self._client.stream(prompt, timeout=timeout, **arguments))
            usage = next((piece.usage_metadata for piece in reversed(pieces) if piece.usage_metadata), None)
            # Each piece may tell the usage so far: together they would add up.
            bare = [piece.model_copy(update={"usage_metadata": None}) for piece in pieces]
            return bare[0] + bare[1:], usage
        except SURPRISES as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> ResearcherError:
        words = on_one_line(str(error).replace(self._key.get_secret_value() or "\0", "***"))[:300]
        return ResearcherError(f"model {self.endpoint.name} failed ({type(error).__name__}): {words}", kind_of(error))


def _weaker(method: Method) -> Method:
    return METHODS[min(METHODS.index(method) + 1, len(METHODS) - 1)]

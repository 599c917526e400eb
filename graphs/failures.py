"""What went wrong with a model call, from the exception that its client raised."""

import json
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from langchain_core.exceptions import LangChainException
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    OpenAIError,
)

from factors.errors import FailureKind, ResearcherError
from graphs.transport import AnswerTooLargeError

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
_REFUSED = frozenset({400, 404, 405, 415, 422, 500, 501})  # how endpoints answer what they lack
_UNSAID = frozenset({400, 422})  # the same where they do not say what it is
_LACKING = ("response_format", "response format", "json_schema", "json_object", "schema", "tool", "function")
_TOO_LONG = ("context length", "context_length", "maximum context", "too long", "too many tokens")
_FILTERED = ("content_filter", "content management policy")
_OPTIONAL = ("temperature", "max_completion_tokens", "max_tokens", "stream_options")  # some models lack one
_SERVER_FAULTS = 500

# A body that is no chat completion surprises the client in ways that it does not document.
SURPRISES = (
    OpenAIError,
    LangChainException,
    httpx2.TransportError,
    httpx2.DecodingError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    RecursionError,
    OverflowError,
)


def lacking(cause: BaseException | None, arguments: Mapping[str, Any]) -> frozenset[str] | None:
    """Arguments that the endpoint says it lacks, none where it seems to lack the format, ``None`` where neither is."""
    if not isinstance(cause, APIStatusError) or cause.status_code not in _REFUSED:
        return None
    words = str(cause).lower()
    if any(told in words for told in (*_TOO_LONG, *_FILTERED)):
        return None
    given = json.dumps(arguments)
    named = frozenset(name for name in _OPTIONAL if f'"{name}"' in given and name in words)
    if named or cause.status_code in _UNSAID or any(told in words for told in _LACKING):
        return named
    return None


def kind_of(error: Exception) -> FailureKind:
    """The kind of failure."""
    if any(isinstance(cause, AnswerTooLargeError) for cause in _causes(error)):
        return "too_large"
    if isinstance(error, APIStatusError):
        if any(told in str(error).lower() for told in _FILTERED):
            return "content_filter"
        fault: FailureKind = "server" if error.status_code >= _SERVER_FAULTS else "request"
        return _BY_STATUS.get(error.status_code, fault)
    return next((kind for types, kind in _BY_TYPE if isinstance(error, types)), "malformed")


def perhaps_paid(error: ResearcherError) -> bool:
    """Whether a model may have worked for it: the request was taken, and not answered with a status that refuses it."""
    causes = list(_causes(error))
    return not any(isinstance(cause, APIStatusError | httpx2.ConnectError | httpx2.ConnectTimeout) for cause in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def asked_for(error: BaseException | None) -> float:
    """Seconds that the endpoint wants to be left alone: so many, or until a date."""
    cause = error.__cause__ if error else None
    asked = cause.response.headers.get("retry-after", "") if isinstance(cause, APIStatusError) else ""
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0

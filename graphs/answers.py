"""What a model says, as the shape that was asked for: the ways to ask, and a lenient reading of what comes back."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args

from langchain_core.messages import AIMessage, AIMessageChunk
from pydantic import BaseModel, ValidationError

from factors.errors import ResearcherError
from factors.prose import on_one_line

Answer = TypeVar("Answer", bound=BaseModel)
Method = Literal["json_schema", "tool", "json_object", "text"]
METHODS: tuple[Method, ...] = get_args(Method)  #: the strictest first
_IN_WORDS = "\n\nAnswer with one JSON object, and nothing else, that fits this JSON schema:\n{schema}"
# Not in strict schemas, or words that cost tokens and that the prompts say better.
_PASSED_OVER = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "title", "default", "description"}
)
_NAMED = frozenset({"properties", "$defs"})  # whose keys are names, not words of the schema
LONGEST_FAULT = 600  #: characters of what does not fit
_STARTS = 20  # braces at which an object may begin; a text of braces alone is not read for ever


def request(method: Method, shape: type[BaseModel]) -> tuple[dict[str, Any], str]:
    """The arguments of the call, and what is to be added to the prompt.

    The format goes into the body beside what the client knows of: it would parse the answer itself, and again and again
    as it streams.
    """
    name, schema = shape.__name__.strip("_").lower(), strict_schema(shape)
    if method == "json_schema":
        asked = {"name": name, "strict": True, "schema": schema}
        return _formatted({"type": "json_schema", "json_schema": asked}), ""
    if method == "tool":
        tool = {"type": "function", "function": {"name": name, "parameters": schema}}
        return {"tools": [tool], "tool_choice": {"type": "function", "function": {"name": name}}}, ""
    return (_formatted({"type": "json_object"}) if method == "json_object" else {}), in_words(shape)


def in_words(shape: type[BaseModel]) -> str:
    """What to add to a prompt so that the answer has that shape."""
    return _IN_WORDS.replace("{schema}", json.dumps(strict_schema(shape)))


def _formatted(response_format: dict[str, Any]) -> dict[str, Any]:
    return {"extra_body": {"response_format": response_format}}


def strict_schema(shape: type[BaseModel]) -> dict[str, object]:
    """The JSON schema of a shape without what strict endpoints reject; all keys are required and no others allowed."""
    return _strict(shape.model_json_schema())


def _strict(node: dict[str, Any]) -> dict[str, object]:
    kept: dict[str, object] = {}
    for key, value in node.items():
        if key in _NAMED:
            kept[key] = {name: _strict(inner) for name, inner in value.items()}
        elif isinstance(value, dict):
            kept[key] = _strict(value)
        elif key not in _PASSED_OVER:
            kept[key] = value
    if "properties" in node:
        kept |= {"required": list(node["properties"]), "additionalProperties": False}
    return kept


def text_of(message: AIMessage, *, streamed: bool) -> str:
    """What the model said: the arguments of its tool call as it wrote them, else its text.

    A streamed answer that does not say how it ended was cut off. What cannot be encoded is a question mark.

    Raises:
        ResearcherError: it refused, was filtered, was cut off, or said nothing.
    """
    refusal = message.additional_kwargs.get("refusal")
    if refusal:
        raise ResearcherError(f"it refused: {on_one_line(str(refusal))[:200]}", "refusal")
    ended = message.response_metadata.get("finish_reason")
    if ended == "content_filter":
        raise ResearcherError("the endpoint's filter held its answer back", "content_filter")
    if ended == "length" or (streamed and ended is None):
        raise ResearcherError("its answer broke off", "truncated")
    said = next(_tool_arguments(message), None) or message.text
    if not said.strip():
        raise ResearcherError("it said nothing", "empty")
    return said.encode(errors="replace").decode()


def _tool_arguments(message: AIMessage) -> Iterator[str]:
    """The arguments of its tool calls, as text where there is one: pieces put together may be less than an object."""
    if isinstance(message, AIMessageChunk):
        yield from (str(call["args"]) for call in message.tool_call_chunks)
        return
    yield from (json.dumps(call["args"]) for call in message.tool_calls)
    yield from (str(call["args"]) for call in message.invalid_tool_calls)


def read(text: str, shape: type[Answer]) -> Answer:
    """The first JSON object in a text, fenced or not, that fits the shape; keys that the shape lacks are left out.

    Raises:
        ResearcherError: there is none, or none fits; the message says where the first does not.
    """
    fault: ValidationError | None = None
    for found in _objects(text):
        try:
            return fitted(found, shape)
        except ValidationError as error:
            fault = fault or error
    if fault is None:
        raise ResearcherError("there is no JSON object in it", "malformed")
    faults = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in fault.errors(include_input=False))
    raise ResearcherError(on_one_line("; ".join(faults))[:LONGEST_FAULT], "schema") from fault


def fitted(found: Mapping[str, Any], shape: type[Answer]) -> Answer:
    """An object as the shape; keys that the shape lacks are left out.

    Raises:
        ValidationError: it does not fit.
    """
    return shape.model_validate({key: value for key, value in found.items() if key in shape.model_fields})


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, start = json.JSONDecoder(), text.find("{")
    for _ in range(_STARTS):
        if start < 0:
            return
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            found, end = None, start + 1
        if isinstance(found, dict):
            yield found
        start = text.find("{", end)

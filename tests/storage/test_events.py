from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from storage.events import EVENTS, PAYLOADS, StreamedEvent
from storage.runs import EventType

STREAMED = TypeAdapter(StreamedEvent)
EVENT = {"run_id": "r", "seq": 3, "at": "2026-03-01T12:00:00Z"}


def test_every_type_of_event_has_a_payload_and_is_told_apart_by_it():
    assert list(PAYLOADS) == list(EVENTS) == list(get_args(EventType))
    schema = STREAMED.json_schema()
    assert set(schema["discriminator"]["mapping"]) == {*get_args(EventType), "run.progress"}


def test_a_payload_that_says_more_or_less_than_documented_is_none():
    said = {"step": "idea 1", "round": 1, "agent": "idea", "kind": "server", "message": "m"}
    event = {**EVENT, "type": "agent.failed"}
    assert STREAMED.validate_python({**event, "data": said}).data.agent == "idea"
    for data in ({**said, "more": 1}, {"round": 1}, {**said, "kind": "bad luck"}):
        with pytest.raises(ValidationError):
            STREAMED.validate_python({**event, "data": data})

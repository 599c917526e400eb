"""What events tell, held to their documented types."""

from storage.events import EVENTS


def documented(events):
    """The events, each of which is exactly what its type's payload says."""
    for event in events:
        told = EVENTS[event.type].model_validate_json(event.model_dump_json())
        assert told.model_dump(exclude={"data"}) == event.model_dump(exclude={"data"})
    return events

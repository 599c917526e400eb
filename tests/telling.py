"""What events tell, held to their documented types; and a process that is alive, as it writes them."""

import threading
from contextlib import contextmanager

from storage.events import EVENTS
from storage.records import Records

WRITER = "another:1:0"


def documented(events):
    """The events, each of which is exactly what its type's payload says."""
    for event in events:
        told = EVENTS[event.type].model_validate_json(event.model_dump_json())
        assert told.model_dump(exclude={"data"}) == event.model_dump(exclude={"data"})
    return events


@contextmanager
def beating(url, executor=WRITER):
    """Show that an executor is alive, or a service would take its runs over."""
    ended = threading.Event()

    def beat():
        with Records.open(url) as records:
            while not ended.wait(1.0):
                records.queue.beat(executor)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

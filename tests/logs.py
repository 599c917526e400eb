"""What a service has written to its standard error."""

import json


def lines(text):
    """The lines, each a JSON object."""
    return [json.loads(line) for line in text.splitlines()]


def troubles(text):
    """Those that tell of something wrong."""
    return [line for line in lines(text) if line["level"] not in {"debug", "info"}]

"""What can go wrong with a model: the fault, the kind of failure that it is, and how many requests it takes."""

from tests.chat_server import Fault, completion

BROKEN = {
    "401": (Fault(401), "authentication", 1),
    "403": (Fault(403), "permission", 1),
    "404": (Fault(404), "unknown_model", 1),
    "429": (Fault(429), "rate_limit", 3),
    "429 with Retry-After": (Fault(429, {"Retry-After": "1000"}), "rate_limit", 1),
    "500": (Fault(500), "server", 3),
    "502": (Fault(502, body=b"<html>bad gateway</html>"), "server", 3),
    "503": (Fault(503), "server", 3),
    "reset": (Fault(way="reset"), "connection", 3),
    "hang": (Fault(way="hang"), "timeout", 1),
    "drip": (Fault(way="drip"), "timeout", 1),
    "header by bytes": (Fault(way="slow_head"), "timeout", 1),
    "50 MB": (Fault(way="huge"), "too_large", 1),
    "endless": (Fault(way="endless"), "too_large", 1),
    "null content": (completion(None), "empty", 1),
    "cut off": (completion(None, finish="length"), "truncated", 1),
    "refusal": (completion(None, refusal="I cannot help with that"), "refusal", 1),
    "filter": (completion(None, finish="content_filter"), "content_filter", 1),
    "words": (completion("I am sorry"), "malformed", 2),
    "JSON cut off": (completion('{"statement": "half of'), "malformed", 2),
    "empty object": (completion("{}"), "schema", 2),
    "another shape": (completion('{"statement": 7, "candidates": {}, "supported": "maybe"}'), "schema", 2),
    "deep": (completion('{"a":' * 100_000), "malformed", 2),
}
WHOLE = {
    **BROKEN,
    "body cut off": (Fault(body=b'{"id": "x", "choices": [{"ind'), "malformed", 1),
    "no completion": (Fault(body=b"{}"), "malformed", 1),
    "a list": (Fault(body=b"[1, 2]"), "malformed", 1),
    "no choice": ({**completion("x"), "choices": []}, "malformed", 1),
}
IN_PIECES = {
    **BROKEN,
    "no stream": (Fault(body=b'{"id": "x", "choices": [{"ind'), "malformed", 1),
    "no choice": ({**completion("x"), "choices": []}, "truncated", 1),
    "refusal": (completion(None, refusal="I cannot help with that"), "empty", 1),  # the client drops its words
    "no end": (Fault(way="cut"), "connection", 3),
    "error in the stream": (Fault(way="broken"), "server", 3),
    "never an end": (Fault(way="babble"), "too_large", 1),
}

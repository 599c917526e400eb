"""A server on loopback that speaks the chat-completions protocol, in pieces or whole, and breaks it on request."""

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """What goes wrong instead of an answer.

    ``status`` is answered with an error document; ``body`` is sent as it is; ``way`` is how a connection misbehaves;
    ``names`` is an argument that the error says it does not take.
    """

    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes | None = None
    way: str = ""
    names: str = ""


def completion(answer, *, tool=None, finish="stop", refusal=None):
    """A chat completion whose message says ``answer``: text as it is, anything else as JSON."""
    said = answer if isinstance(answer, str) or answer is None else json.dumps(answer)
    message = {"role": "assistant", "content": said, "refusal": refusal}
    if tool is not None:
        function = {"name": tool, "arguments": said}
        message |= {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


class ChatServer(ThreadingHTTPServer):
    """Answers each request with what ``play`` makes of its body, and keeps the bodies.

    ``play`` gives a :class:`Fault`, a document of :func:`completion`, or an answer to put into one. ``methods`` are the
    ways of asking for a shape that it knows; the others are a bad request. ``counts`` is whether it tells the tokens.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, play, methods=("json_schema", "tool", "json_object", "text"), counts=True):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.play, self.methods, self.counts = play, methods, counts
        self.running_usage = False  # whether each piece tells the usage so far
        self.requests, self.keys, self.idempotency, self.closing = [], [], [], threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def close(self):
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """Clients hang up on faults; that is what is tested."""


def asked_by(body):
    """How a request asks for a shape."""
    if "tools" in body:
        return "tool"
    return body.get("response_format", {"type": "text"})["type"]


def _pieces(text):
    length = len(text or "") // 50 + 1
    return [text[k : k + length] for k in range(0, len(text or ""), length)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.keys.append(self.headers["Authorization"])
        self.server.idempotency.append(self.headers["Idempotency-Key"])
        if asked_by(body) not in self.server.methods:
            self._send(400, {}, json.dumps({"error": {"message": "no such response format"}}).encode())
            return
        answer = self.server.play(body)
        if isinstance(answer, Fault):
            self._break(answer)
            return
        if not (isinstance(answer, dict) and "choices" in answer):
            tool = body["tools"][0]["function"]["name"] if "tools" in body else None
            answer = completion(answer, tool=tool)
        if self.server.counts is False:
            answer = {**answer, "usage": None}
        if body.get("stream"):
            self._stream(answer, counted=bool(body.get("stream_options", {}).get("include_usage")))
        else:
            self._send(200, {}, json.dumps(answer).encode())

    def _stream(self, document, *, counted):
        """The document in some fifty pieces, then how it ended, then its usage where that was asked for."""
        head = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        deltas = []
        for choice in document["choices"]:
            message = choice["message"]
            for said in (message["content"], message.get("refusal")):
                name = "content" if said is message["content"] else "refusal"
                deltas += [{name: piece} for piece in _pieces(said)]
            for call in message.get("tool_calls", ()):
                pieces = _pieces(call["function"]["arguments"])
                deltas.append({"tool_calls": [{**call, "index": 0, "function": {**call["function"], "arguments": ""}}]})
                deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
        ends = [choice["finish_reason"] for choice in document["choices"]]
        if self.server.running_usage:
            head = {**head, "usage": document["usage"]}
        self._begin("text/event-stream")
        for delta, end in [*((delta, None) for delta in deltas), *(({}, end) for end in ends)]:
            self._event(
                {**head, "choices": [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": end}]}
            )
        if counted:
            self._event({**head, "choices": [], "usage": document["usage"]})
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data):
        self._chunk(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode())

    def _break(self, fault):
        if fault.way:
            getattr(self, f"_{fault.way}")()
        elif fault.body is not None:
            self._send(fault.status, fault.headers, fault.body)
        else:
            words = f"Unsupported parameter: '{fault.names}' is not supported with this model." if fault.names else "no"
            document = {"error": {"message": words, "type": "error", "code": None}}
            self._send(fault.status, fault.headers, json.dumps(document).encode())

    def _send(self, status, headers, data):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _begin(self, kind="application/json"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _reset(self):
        self.close_connection = True

    def _cut(self):
        """Half of an answer, in a stream or not, and no end of it."""
        self._begin("text/event-stream")
        piece = {"index": 0, "delta": {"role": "assistant", "content": '{"statement": "half'}, "finish_reason": None}
        self._event({"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [piece]})
        self.close_connection = True

    def _broken(self):
        """An answer that turns into an error while it is told."""
        self._begin("text/event-stream")
        self._event({"error": {"message": "overloaded", "type": "server_error", "code": None}})
        self.close_connection = True

    def _babble(self):
        """A stream that never ends, of well-formed pieces."""
        self._begin("text/event-stream")
        piece = {"index": 0, "delta": {"role": "assistant", "content": "x" * 50_000}, "finish_reason": None}
        until = time.monotonic() + 30
        while time.monotonic() < until and not self.server.closing.is_set():
            self._event({"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [piece]})
        self.close_connection = True

    def _stall(self):
        """The beginning of an answer, and then nothing."""
        self._begin()
        self._chunk(b"{")
        self._hang()

    def _slow_head(self):
        """A header a byte at a time."""
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
            self.wfile.write(bytes([byte]))
            if self.server.closing.wait(0.2):
                break
        self.close_connection = True

    def _hang(self):
        self.server.closing.wait(30)
        self.close_connection = True

    def _drip(self):
        self._begin()
        for byte in json.dumps(completion("slow")).encode():
            self._chunk(bytes([byte]))
            if self.server.closing.wait(0.2):
                break
        self.close_connection = True

    def _huge(self):
        self._begin()
        for _ in range(50):
            self._chunk(b" " * 1_000_000)
        self.close_connection = True

    def _endless(self):
        self._begin()
        until = time.monotonic() + 30
        while time.monotonic() < until and not self.server.closing.is_set():
            self._chunk(b" " * 1000)
        self.close_connection = True

    def log_message(self, *_):
        """Nothing."""

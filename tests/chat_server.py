"""A server on loopback that speaks the chat-completions protocol, and breaks it on request."""

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """What goes wrong instead of an answer.

    ``status`` is answered with an error document; ``body`` is sent as it is; ``way`` is how a connection misbehaves.
    """

    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes | None = None
    way: str = ""


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
    ways of asking for a shape that it knows; the others are a bad request.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, play, methods=("json_schema", "tool", "json_object", "text")):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.play, self.methods = play, methods
        self.requests, self.keys, self.closing = [], [], threading.Event()
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.keys.append(self.headers["Authorization"])
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
        self._send(200, {}, json.dumps(answer).encode())

    def _break(self, fault):
        if fault.way:
            getattr(self, f"_{fault.way}")()
        elif fault.body is not None:
            self._send(fault.status, fault.headers, fault.body)
        else:
            document = {"error": {"message": "no", "type": "error", "code": None}}
            self._send(fault.status, fault.headers, json.dumps(document).encode())

    def _send(self, status, headers, data):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _begin(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _reset(self):
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

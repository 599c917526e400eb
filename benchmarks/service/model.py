"""A language model on loopback that answers a question by what it is asked, and the same whenever it is asked again."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

FORMULAS = (
    "-TS_CORR($return, $volume, 20)",
    "RANK($open)",
    "-TS_SUM($return * TS_ZSCORE($volume, 60), 5)",
    "-TS_SUM($return * LOG($volume / TS_MEDIAN($volume, 40)), 10)",
    "RANK($clsoe)",
    "RANK(TS_MEAN($high - $low, 12))",
    "-DECAYLINEAR($return * TS_RANK($volume, 40), 5)",
    "TS_MEAN($close, 300)",
)
_IDEA = {name: name for name in ("statement", "observation", "knowledge", "justification", "specification")}
_PASSING = {
    "hypothesis_description": 1.0,
    "hypothesis_reason": "it does",
    "description_formula": 1.0,
    "formula_reason": "it does",
}


class Model(ThreadingHTTPServer):
    """Speaks as much of the chat-completions protocol as runs need, and keeps the bodies of requests."""

    name = "loopback"
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a process that asks it."""
        address = f"http://127.0.0.1:{self.server_port}/v1"
        models = {self.name: {"timeout": 30, "max_output_tokens": 1000, "base_url": address, "api_key": "none"}}
        return {"ALPHAAGENT_MODELS": json.dumps(models)}

    def close(self) -> None:
        """Stop answering."""
        self.shutdown()
        self.server_close()


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """What the model says, in the shape that is asked for."""
    prompt = body["messages"][-1]["content"]
    draw = Random(hashlib.sha256(prompt.encode()).digest())  # noqa: S311 - a model that must repeat itself
    shape = body["response_format"]["json_schema"]["name"]
    if shape == "idea":
        return {**_IDEA, "statement": f"Gains on volume are spent, {draw.random():.6f}.", "horizon_days": 1}
    if shape == "judgements":
        return {"judgements": [{"number": number, **_PASSING} for number in range(1, 9)]}
    if shape == "feedback":
        return {"supported": True, "lesson": f"go on, {draw.random():.6f}", "action": "refine", "focus": "windows"}
    drawn = draw.sample(FORMULAS, 4)
    return {
        "candidates": [
            {"name": f"n {place}", "description": "d", "formula": formula, "variables": []}
            for place, formula in enumerate(drawn)
        ]
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if not isinstance(self.server, Model):
            raise TypeError("a handler of another server")
        self.server.requests.append(text)
        message = {"role": "assistant", "content": json.dumps(answer(json.loads(text)))}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        told = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""

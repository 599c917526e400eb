"""Spans arrive at a collector on loopback; the end of the process does not wait for one that is not there."""

import gzip
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from signal import SIGTERM

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.tracing import configure
from factors.errors import SettingError
from tests.logs import lines

SHORT = {"direction": "volume shocks", "market": "small", "seed": 2, "budget": {"rounds": 2, "candidates": 3}}


@pytest.fixture
def collector():
    """A collector's address, and the spans that it has been sent."""
    spans = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()


def test_requests_runs_and_nodes_are_spans(new_home, serve, collector):
    address, spans = collector
    service = serve(new_home(), OTEL_EXPORTER_OTLP_ENDPOINT=address)
    run_id = service.post(**SHORT).json()["id"]
    list(service.lines(run_id))
    service.process.send_signal(SIGTERM)
    _, noise = service.process.communicate(timeout=10)
    assert lines(noise)[-1]["event"] == "service stopped"
    assert {"POST /runs", "GET /runs/{run_id}/events"} <= {span.name for span in spans}
    [run] = [span for span in spans if span.name == "run"]
    assert {one.key: one.value.string_value for one in run.attributes} == {"run_id": run_id}
    nodes = [span for span in spans if span.parent_span_id == run.span_id]
    assert [span.name for span in sorted(nodes, key=lambda span: span.start_time_unix_nano)][:3] == [
        "plan",
        "idea",
        "factor",
    ]
    assert sum(span.name == "feedback" for span in nodes) == 2
    assert {span.trace_id for span in nodes} == {run.trace_id}


def test_a_collector_that_is_not_there_holds_nothing_up(new_home, serve):
    service = serve(new_home(), OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert service.get("/healthz").status_code == 200
    service.process.send_signal(SIGTERM)
    service.process.communicate(timeout=10)


def test_without_the_extra_it_is_said_what_is_missing(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set.*alphaagent\[otel\]"):
        configure()

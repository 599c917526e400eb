"""Figures of the service for Prometheus.

What the records know is counted from them at each scrape: it is the whole team's, and every process that shares the
records tells the same. What a process sees by itself, such as requests and the time of nodes, it tells alone.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.tracing import span
from storage.census import Census, Counts, UnavailableError

logger = logging.getLogger(__name__)

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WORK_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """What one process tells of itself and of the records; safe to share between threads.

    Attributes:
        request_seconds: time until an answer began, by method, route and status.
        node_seconds: time that nodes of the state machine took, by node.
        queue_seconds: time that runs had waited when this process began them.
        subscribers: event streams that are open.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.request_seconds = Histogram(
            "alphaagent_http_request_seconds",
            "Time until the answer to a request began.",
            ["method", "route", "status"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self.node_seconds = Histogram(
            "alphaagent_node_seconds",
            "Time that a node of the state machine took.",
            ["node"],
            buckets=_WORK_SECONDS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "alphaagent_queue_seconds",
            "Time that a run had waited when it began.",
            buckets=_WORK_SECONDS,
            registry=registry,
        )
        self.subscribers = Gauge("alphaagent_sse_subscribers", "Event streams that are open.", registry=registry)
        ProcessCollector(registry=registry)

    def watch(self, census: Census) -> None:
        """Tell what these records hold, too."""
        self._registry.register(_RecordsCollector(census))

    @contextmanager
    def node(self, name: str) -> Iterator[None]:
        """Time a node, which is a span of its run."""
        with self.node_seconds.labels(name).time(), span(name):
            yield

    def text(self) -> bytes:
        """All figures in the text format of Prometheus."""
        return generate_latest(self._registry)


class _RecordsCollector(Collector):
    def __init__(self, census: Census) -> None:
        self._census = census

    def collect(self) -> Iterator[Metric]:
        try:
            counts = self._census.counts()
        except UnavailableError as error:  # the process still has something to tell
            logger.warning("the records cannot be counted: %s", error)
            yield GaugeMetricFamily("alphaagent_records_up", "Whether the records answer.", 0)
        else:
            yield GaugeMetricFamily("alphaagent_records_up", "Whether the records answer.", 1)
            yield from _of_runs(counts)
            yield from _of_calls(counts)


def _of_runs(counts: Counts) -> Iterator[Metric]:
    runs = GaugeMetricFamily("alphaagent_runs", "Runs by status.", labels=["status"])
    for status, count in counts.runs.items():
        runs.add_metric([status], count)
    yield runs
    yield GaugeMetricFamily("alphaagent_queue_depth", "Runs that wait.", counts.runs["queued"])
    since = counts.waiting_since
    waited = (datetime.now(UTC) - since).total_seconds() if since else 0.0
    yield GaugeMetricFamily("alphaagent_queue_oldest_seconds", "Time that the first of them has waited.", waited)
    recoveries = "Runs taken up that another process had left."
    yield CounterMetricFamily("alphaagent_recoveries", recoveries, value=counts.recoveries)
    candidates = CounterMetricFamily(
        "alphaagent_candidates", "Candidates by verdict: refused by the gate, rejected, accepted.", labels=["verdict"]
    )
    for verdict in ("refused", "rejected", "accepted"):
        candidates.add_metric([verdict], getattr(counts, verdict))
    yield candidates
    measured = counts.rejected + counts.accepted
    yield CounterMetricFamily("alphaagent_evaluations", "Candidates that were measured.", value=measured)


def _of_calls(counts: Counts) -> Iterator[Metric]:
    calls = CounterMetricFamily("alphaagent_model_calls", "Model calls that have ended.", labels=["agent", "outcome"])
    tokens = CounterMetricFamily("alphaagent_model_tokens", "Tokens that models read or wrote.", labels=["direction"])
    for one in counts.calls:
        calls.add_metric([one.agent, one.outcome], one.calls)
    tokens.add_metric(["input"], sum(one.input_tokens for one in counts.calls))
    tokens.add_metric(["output"], sum(one.output_tokens for one in counts.calls))
    yield calls
    yield tokens
    dollars = sum(one.usd for one in counts.calls)
    yield CounterMetricFamily("alphaagent_model_usd", "What model calls with a price cost.", value=dollars)

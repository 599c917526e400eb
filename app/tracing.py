"""Spans of OpenTelemetry: a request's, which FastAPI begins by itself, and within ours a run's and its nodes'.

They cost next to nothing until :func:`configure` finds a collector to send them to.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from opentelemetry import trace

from factors.errors import SettingError

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SERVICE = "alphaagent"
SECONDS = 2  # for a batch of spans: a collector that does not answer must not hold up the end of the process


def configure() -> Callable[[], None]:
    """Send spans to the collector that ``OTEL_EXPORTER_OTLP_ENDPOINT`` names; nowhere if it is not set.

    Returns:
        What sends the last of them, to be called at the end.

    Raises:
        SettingError: it is set, and what it takes is not installed.
    """
    if not os.environ.get(ENDPOINT):
        return _nothing
    try:
        # An extra: most servers do without.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise SettingError(f"{ENDPOINT} is set, which takes an extra: pip install 'alphaagent[otel]'") from None
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=SECONDS)))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _nothing() -> None:
    pass


def span(name: str, **attributes: str) -> AbstractContextManager[trace.Span]:
    """A span within the one that is under way; an exception that passes through is told in it."""
    return trace.get_tracer(SERVICE).start_as_current_span(name, attributes=attributes)

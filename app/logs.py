"""Structured logs on standard error: JSON, one line for each thing that happened, or readable ones on a terminal.

What the libraries log goes the same way. Whatever is bound to the context, such as ``request_id`` and ``run_id``, is
told with every line, and a traceback is one field of it. Secrets are blotted out of the finished line, whoever wrote
them into it.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

import structlog
from pydantic import BaseModel, SecretStr
from structlog.types import Processor, WrappedLogger

BLOT: Final = "***"
_OURS: Final = ("app", "graphs", "storage", "factors")  # whose ordinary progress is of interest
_OWN_WAYS: Final = ("dbos", "uvicorn", "uvicorn.error", "uvicorn.access")  # which would write by themselves
_CREDENTIALS: Final = re.compile(
    r"""(?<=://)[^/\s"'@]*:[^/\s"'@]*(?=@)|(?<=bearer )[\w.~+/=-]+"""
    r"|alphaagent_[0-9a-f]{12}_[\w-]+|whsec_[\w-]+",  # keys of ours and secrets of webhooks
    re.IGNORECASE,
)


def configure(level: int, settings: BaseModel | None = None) -> None:
    """Send all logs of this process the same way, without the secrets that the settings hold.

    Args:
        level: the least that our own loggers tell; libraries tell of warnings at least.
        settings: of the process, where it has any.
    """
    context: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*context, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.name = __name__
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=context,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(readable=sys.stderr.isatty()),
                _Blotter(secrets_in(settings)),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [*(other for other in root.handlers if other.name != __name__), handler]
    logging.captureWarnings(True)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    for name in _OWN_WAYS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [logging.NullHandler()], True


def log_failure(failure: threading.ExceptHookArgs) -> None:
    """Tell of a thread that an exception has ended, as ``threading.excepthook``."""
    if failure.exc_value is not None:
        name = failure.thread.name if failure.thread else "a thread"
        logging.getLogger(__name__).error("%s has failed", name, exc_info=failure.exc_value)


def secrets_in(value: object) -> Iterator[str]:
    """The secrets that settings hold, at any depth."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for _, part in value:
            yield from secrets_in(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from secrets_in(part)


def _rendering(*, readable: bool) -> list[Processor]:
    if readable:  # rich tracebacks would show local variables
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


class _Blotter:
    """The last step of a line: no secret passes, nor a password or token that is written where these are.

    Nor do keys and secrets that this program has made, wherever they are written.
    """

    def __init__(self, secrets: Iterator[str]) -> None:
        spelt = {spelling for secret in secrets if secret for spelling in (secret, json.dumps(secret)[1:-1])}
        self._secrets = sorted(spelt, key=len, reverse=True)

    def __call__(self, _: WrappedLogger, __: str, line: Any) -> str:  # noqa: ANN401 - as structlog declares it
        for secret in self._secrets:
            line = line.replace(secret, BLOT)
        return _CREDENTIALS.sub(BLOT, line)

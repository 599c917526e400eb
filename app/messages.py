"""What a worker process is asked and answers: JSON over a socket, each message behind its length.

The first message is an :class:`Opening`, answered by :class:`Opened`; from then on each request has one answer. Both
sides read nothing but these types.
"""

import struct
from collections.abc import Callable, Mapping
from socket import socket
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import to_json

from factors.certificate import Certificate
from factors.evaluation import Evidence, SplitMetrics
from factors.robustness import Robustness
from storage.snapshot import Snapshot

IDLE_SECONDS: Final = 300.0  #: after which a worker is not asked any more; a little later it ends by itself
MOST_BYTES: Final = 64 << 20  #: of a message

_LENGTH = struct.Struct("!I")


class Message(BaseModel):
    """What crosses the socket; bytes are as :func:`factors.mapping.array_bytes` writes them."""

    model_config = ConfigDict(frozen=True, extra="forbid", val_json_bytes="base64")


class Opening(Message):
    """What a worker is for.

    Attributes:
        snapshot: whose in-sample bars are computed on.
        universe: whose members are ranked.
        alphas: name, formula and source of the known alphas that formulas are compared with.
        memory: bytes that it may take beside the market.
    """

    kind: Literal["opening"] = "opening"
    snapshot: Snapshot
    universe: str
    alphas: tuple[tuple[str, str, str], ...]
    memory: int


class Expect(Message):
    """Formulas that will be measured."""

    kind: Literal["expect"] = "expect"
    formulas: tuple[str, ...]


class Measure(Message):
    """Measure a formula."""

    kind: Literal["measure"] = "measure"
    formula: str


class Compare(Message):
    """Hold a formula beside peers."""

    kind: Literal["compare"] = "compare"
    formula: str
    peers: tuple[str, ...]


class Prove(Message):
    """Prove a formula causal."""

    kind: Literal["prove"] = "prove"
    formula: str
    seed: int


class Examine(Message):
    """Examine daily rank ICs for robustness."""

    kind: Literal["examine"] = "examine"
    rank_ic: bytes
    evidence: Evidence
    splits: Mapping[str, SplitMetrics]


Request: TypeAlias = Expect | Measure | Compare | Prove | Examine


class Opened(Message):
    """The market is at hand; its calendar, and the days after which what was bought may be sold."""

    kind: Literal["opened"] = "opened"
    dates: bytes
    settlement: int


class Expected(Message):
    """Taken note of."""

    kind: Literal["expected"] = "expected"


class Measured(Message):
    """A measurement."""

    kind: Literal["measured"] = "measured"
    splits: Mapping[str, SplitMetrics]
    evidence: Evidence
    rank_ic: bytes


class Compared(Message):
    """Rank correlations by peer and known alpha, and the rank IC of what peers leave."""

    kind: Literal["compared"] = "compared"
    correlations: Mapping[str, float]
    marginal: float


class Proven(Message):
    """A certificate."""

    kind: Literal["proven"] = "proven"
    certificate: Certificate


class Examined(Message):
    """How robust a formula is."""

    kind: Literal["examined"] = "examined"
    robustness: Robustness


class Ranking(Message):
    """No answer yet: so many known alphas are ranked first, once for a market."""

    kind: Literal["ranking"] = "ranking"
    alphas: int


class Exhausted(Message):
    """The memory did not suffice."""

    kind: Literal["exhausted"] = "exhausted"


Answer: TypeAlias = Opened | Expected | Measured | Compared | Proven | Examined | Ranking | Exhausted

OPENING: TypeAdapter[Opening] = TypeAdapter(Opening)
REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


def send(end: socket, message: Message, waiting: Callable[[], None]) -> None:
    """Write a message; ``waiting`` is called, and may raise, each time that the socket's timeout has passed.

    Raises:
        OSError: nobody reads at the other end any more.
    """
    # Unfolded first: a model serialised whole would lose its NaN to null.
    content = to_json(message.model_dump(), inf_nan_mode="constants", bytes_mode="base64")
    left = memoryview(_LENGTH.pack(len(content)) + content)
    while left:
        try:
            left = left[end.send(left) :]
        except TimeoutError:
            waiting()


def receive(end: socket, waiting: Callable[[], None]) -> bytes:
    """Read a message; ``waiting`` as for :func:`send`.

    Raises:
        OSError: nobody writes at the other end any more, or something else than messages.
    """
    [length] = _LENGTH.unpack(_exactly(end, _LENGTH.size, waiting))
    if length > MOST_BYTES:
        raise ConnectionError(f"a message of {length} bytes")
    return _exactly(end, length, waiting)


def _exactly(end: socket, count: int, waiting: Callable[[], None]) -> bytes:
    content = bytearray()
    while len(content) < count:
        try:
            part = end.recv(count - len(content))
        except TimeoutError:
            waiting()
            continue
        if not part:
            raise ConnectionError("the other end is closed")
        content += part
    return bytes(content)

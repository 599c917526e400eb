"""Receivers of webhooks, and ways out that lead to them."""

from contextlib import ExitStack

import pytest

from app.egress import Egress
from tests.receiver import Receiver, authority
from tests.storage.conftest import url  # noqa: F401 - an outbox that processes share may be on either database


@pytest.fixture(scope="session")
def trusted(tmp_path_factory):
    """The authority of the receivers."""
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def new_receiver(trusted):
    """Start another receiver: ``new_receiver()``."""
    with ExitStack() as stack:
        yield lambda *address: stack.enter_context(Receiver(trusted.folder, *address).serving())


@pytest.fixture
def receiver(new_receiver):
    """Takes what is posted to any host."""
    return new_receiver()


@pytest.fixture
def egress(receiver, trusted):
    """A way out to the receiver alone, whatever the host."""
    return Egress(look_up=lambda *_: [receiver.address], is_allowed=lambda _: True, certificates=trusted.trusted())

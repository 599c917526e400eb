"""Records of a test's own."""

import pytest

from storage.records import Records


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/records.sqlite"


@pytest.fixture
def records(url):
    with Records.open(url) as opened:
        yield opened

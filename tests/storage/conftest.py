"""Records of a test's own, on either database."""

import pytest

from storage.records import Records


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "postgres":
        return request.getfixturevalue("postgres")()
    return f"sqlite:///{tmp_path}/records.sqlite"


@pytest.fixture
def records(url):
    with Records.open(url) as opened:
        yield opened

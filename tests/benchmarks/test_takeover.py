"""A server that is lost, and one that wakes up after it was given up, beside another on the same database."""

import pytest

from benchmarks.service.takeover import takeover, undisturbed


@pytest.fixture(scope="module")
def home(new_home):
    return new_home()


@pytest.fixture(scope="module")
def expected(home, postgres):
    return undisturbed(home, "small", postgres())


@pytest.mark.parametrize("silent", [False, True], ids=["killed", "silent"])
def test_the_runs_of_a_lost_server_end_on_the_other_as_if_nothing_had_been(home, expected, postgres, silent):
    found = takeover(home, "small", postgres(), expected, silent=silent)
    assert (found.resumed, found.divergences, found.gaps) == (1, 0, 0)
    assert found.seconds < 60

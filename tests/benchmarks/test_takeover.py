"""A server that is given up, and wakes up again, beside another on the same database."""

import pytest

from benchmarks.service.takeover import takeover, undisturbed


@pytest.mark.parametrize("silent", [False, True], ids=["killed", "silent"])
def test_the_runs_of_a_server_that_is_lost_end_on_the_other_as_if_nothing_had_been(request, new_home, postgres, silent):
    if silent:
        request.getfixturevalue("endurance")
    home = new_home()
    expected = undisturbed(home, "small", postgres())
    found = takeover(home, "small", postgres(), expected, silent=silent)
    assert (found.resumed, found.divergences, found.gaps) == (1, 0, 0)
    assert found.seconds < 30

"""A server that is given up, and wakes up again, beside another on the same database."""

from benchmarks.service.takeover import takeover, undisturbed


def test_the_runs_of_a_server_that_falls_silent_end_on_the_other_as_if_nothing_had_been(new_home, postgres):
    home = new_home()
    expected = undisturbed(home, "small", postgres())
    found = takeover(home, "small", postgres(), expected, silent=True)
    assert (found.resumed, found.divergences, found.gaps) == (1, 0, 0)
    assert found.seconds < 60

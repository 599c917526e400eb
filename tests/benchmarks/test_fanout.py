from benchmarks.service.fanout import BEFORE, fanout


def test_the_fan_out_counts_every_event_of_every_subscriber():
    found = fanout(subscribers=24, runs=3, seconds=2.0)
    written = 3 * 10  # at five a second
    assert found.events == written + 3 * (BEFORE + 1)
    assert found.deliveries == 24 // 3 * (written + 3)
    assert (found.gaps, found.duplicates) == (0, 0)
    assert 0 < found.fanout_p50_ms <= found.fanout_p99_ms <= found.fanout_max_ms
    assert found.fanout_rss_bytes > 50_000_000

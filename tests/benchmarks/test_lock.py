import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pins(path):
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+) \\$", path.read_text(), re.MULTILINE))


def test_peers_are_pinned_beside_our_own_versions():
    ours, peers = pins(ROOT / "requirements.lock"), pins(ROOT / "benchmarks" / "requirements.lock")
    names = {"alphalens-reloaded", "arch", "expr-codegen", "kunquant", "pandas", "polars-ta", "py-alpha-lib", "ta-lib"}
    assert names | {"statsmodels"} <= set(peers)
    assert not {"arch", "kunquant", "pandas", "statsmodels"} & set(ours)
    assert {name: version for name, version in peers.items() if name in ours and ours[name] != version} == {}


def test_the_peers_lock_is_hashed_and_names_no_host():
    text = (ROOT / "benchmarks" / "requirements.lock").read_text()
    assert "://" not in text
    assert text.count("--hash=sha256:") > len(pins(ROOT / "benchmarks" / "requirements.lock"))

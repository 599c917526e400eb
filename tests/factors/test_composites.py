"""Indicators written out as operators, against their textbook definitions as plain loops."""

import math

import numpy as np
import pytest

from factors.evaluator import evaluate
from factors.parse import parse
from tests.panels import grid_of, panel_of
from tests.reference import DAYS, INSTRUMENTS, sample_fields

FIELDS, MEMBER, SECTOR, _ = sample_fields(np.random.default_rng(5), "complete")
PANEL = panel_of(FIELDS, MEMBER, SECTOR)
HIGH, LOW, CLOSE, VOLUME = (FIELDS[name][:, 0].tolist() for name in ("high", "low", "close", "volume"))


def values(formula):
    """The first instrument's values."""
    return grid_of(evaluate(parse(formula), PANEL), PANEL, INSTRUMENTS, DAYS)[:, 0]


def smoothed(series, keep):
    """Weighted mean of each prefix: the newest weighs 1, each older one ``keep`` times its successor."""
    return [math.fsum(v * keep**k for k, v in enumerate(reversed(series[: t + 1])))
            / math.fsum(keep**k for k in range(t + 1)) for t in range(len(series))]  # fmt: skip


def agree(formula, expected, first):
    got = values(formula)
    assert np.isnan(got[:first]).all()
    assert got[first:] == pytest.approx(expected[first - len(got) :], rel=1e-10)


def test_rsi():
    moves = np.diff(CLOSE)
    up, down = (np.array(smoothed(part.tolist(), 13 / 14)) for part in (np.maximum(moves, 0), np.maximum(-moves, 0)))
    agree("RSI($close, 14)", 100 - 100 / (1 + up / down), first=14)


def test_atr():
    ranges = [max(h - low, abs(h - c), abs(low - c)) for h, low, c in zip(HIGH[1:], LOW[1:], CLOSE, strict=False)]
    agree("ATR($high, $low, $close, 14)", smoothed(ranges, 13 / 14), first=14)


def test_macd():
    fast, slow = (np.array(smoothed(CLOSE, 1 - 2 / (d + 1))) for d in (5, 9))
    agree("MACD($close, 5, 9)", fast - slow, first=8)


def test_obv():
    signed = [v if now > before else -v for v, now, before in zip(VOLUME[1:], CLOSE[1:], CLOSE, strict=False)]
    agree("OBV($close, $volume, 10)", [sum(signed[t - 9 : t + 1]) for t in range(9, len(signed))], first=10)


def test_bollinger_bands():
    windows = [np.array(CLOSE[t - 19 : t + 1]) for t in range(19, DAYS)]
    for name, sign in (("BB_UPPER", 2), ("BB_MIDDLE", 0), ("BB_LOWER", -2)):
        agree(f"{name}($close, 20)", [w.mean() + sign * w.std(ddof=1) for w in windows], first=19)


def test_conditions():
    chosen = [v if c > h - 0.1 else 0.0 for v, c, h in zip(VOLUME, CLOSE, HIGH, strict=True)]
    assert 10 < np.count_nonzero(chosen) < DAYS - 10
    agree("FILTER($volume, $close > $high - 0.1)", chosen, first=0)
    sums = [sum(chosen[t - 6 : t + 1]) for t in range(6, DAYS)]
    agree("SUMIF($volume, 7, $close > $high - 0.1)", sums, first=6)

"""What must not matter to any factor or label, from rows that are published to the panel that is laid out of them."""

import numpy as np
import polars as pl
import pytest

from app.panels import load_panel
from factors.alphas import published
from factors.columns import PRICES
from factors.evaluator import evaluate
from factors.frame import to_frame
from factors.measurement import measure
from factors.metrics import daily_metrics
from factors.parse import parse
from factors.redundancy import readable
from storage.markets import publish
from tests.traded import table, traded, weekdays

DAYS = weekdays(90)
SYMBOLS = tuple(f"S{number:02}" for number in range(20))
BARS = traded(DAYS, symbols=SYMBOLS)
TERMS = {"train_end": DAYS[49], "valid_end": DAYS[79], "accept": ["adjustment"]}
SPAN = {"symbol": pl.String, "start": pl.Date, "end": pl.Date}
MEMBERS = table(*((symbol, DAYS[n % 7], None if n % 3 else DAYS[70]) for n, symbol in enumerate(SYMBOLS[:15])), **SPAN)
SECTORS = table(*((s, f"sector {n % 3}") for n, s in enumerate(SYMBOLS)), symbol=pl.String, sector=pl.String)
REFERENCE = {"membership": MEMBERS, "sectors": SECTORS}
# Of these nothing leaps where a digit is rounded, as ranks of equal values do.
SMOOTH = [
    "TS_PCTCHANGE($close, 5)",
    "TS_CORR($close, LOG($volume), 10)",
    "($high - $low) / $close",
    "TS_MEAN($volume, 20) / $volume",
    "TS_STD($return, 10)",
    "$vwap / $close - 1",
    "ZSCORE(TS_MEAN($return, 5))",
    "GROUP_NEUTRALIZE(TS_PCTCHANGE($close, 3), $sector)",
    "EMA($close, 10) / $open",
    "REGBETA($return, TS_MEAN($return, 3), 20)",
    "TS_SUM($vwap * $volume, 5) / TS_SUM($amount, 5)",
    "DECAYLINEAR($close, 8) / DELAY($close, 8)",
    "DEMEAN(LOG($amount))",
]


def market(root, bars, **options):
    return publish(root, "demo", bars, **{**TERMS, **REFERENCE, **options})


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """The market; not to be changed."""
    return market(tmp_path_factory.mktemp("market"), BARS)


def every_alpha(panel):
    """The published formulas that these bars have the columns for, and those above."""
    return [*(alpha.expr for alpha in readable(published(), panel)), *(parse(text, panel.fields) for text in SMOOTH)]


def split(bars, ratios):
    """The bars with a split of some symbols: by ``ratios[symbol] = (day, k)`` from a day on."""
    k = pl.lit(1.0)
    for symbol, (day, ratio) in ratios.items():
        k = pl.when((pl.col("symbol") == symbol) & (pl.col("date") >= day)).then(ratio).otherwise(k)
    prices = [(pl.col(name) / k).alias(name) for name in PRICES if name in bars.columns]
    return bars.with_columns(*prices, pl.col("volume") * k, pl.col("adj_factor") * k)


def drawn_splits(seed, ratios):
    """A split of most symbols after their first bar, by one of these ratios."""
    draw = np.random.default_rng(seed)
    first = dict(BARS.group_by("symbol").agg(pl.col("date").min()).iter_rows())
    later = {symbol: [day for day in DAYS if day > first[symbol]] for symbol in SYMBOLS}
    return {
        symbol: (later[symbol][draw.integers(len(later[symbol]))], float(draw.choice(ratios)))
        for symbol in SYMBOLS
        if draw.random() < 0.8
    }


def test_a_split_in_whole_powers_of_two_changes_not_one_bit(tmp_path, version):
    other = market(tmp_path, split(BARS, drawn_splits(0, (2.0, 4.0, 0.5))))
    assert other.id != version.id
    (panel, labels), (same, others) = (load_panel(one, "members") for one in (version, other))
    np.testing.assert_array_equal(others.returns, labels.returns)
    formulas = every_alpha(panel)
    assert len(formulas) > 200
    for expr in formulas:
        np.testing.assert_array_equal(evaluate(expr, same), evaluate(expr, panel), err_msg=str(expr))


@pytest.mark.parametrize("seed", range(3))
def test_any_split_changes_values_and_labels_by_rounding_at_most(tmp_path, version, seed):
    other = market(tmp_path, split(BARS, drawn_splits(seed, (3.0, 10.0, 1.5, 1 / 7, 1.1))))
    (panel, labels), (same, others) = (load_panel(one, "members") for one in (version, other))
    np.testing.assert_allclose(others.returns, labels.returns, rtol=1e-9, atol=1e-12)
    for text in SMOOTH:
        expected, found = (evaluate(parse(text, panel.fields), one) for one in (panel, same))
        assert np.isfinite(expected).sum() > 300, text
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=text)


def test_what_was_paid_is_kept_in_adjusted_terms(version):
    bars = version.bars("all").filter(pl.col("volume") > 0)
    np.testing.assert_allclose(bars["vwap"] * bars["volume"], bars["amount"], rtol=1e-12)
    raw = BARS.filter(pl.col("date") <= DAYS[79], pl.col("volume") > 0)
    assert bars["amount"].sum() == pytest.approx(raw["amount"].sum(), rel=1e-12)
    assert not np.isclose(bars["vwap"].sum(), raw["vwap"].sum())


@pytest.mark.parametrize("how", ["whole", "append"])
@pytest.mark.parametrize("rules", ["none", "cn"])
def test_later_days_change_nothing_before_them(tmp_path, how, rules):
    """Whatever comes later: prices, splits, ends, a newcomer; all in sample, so that the panel has them."""
    cut, terms = 60, {"train_end": DAYS[49], "valid_end": None, "holdout": False, "rules": rules}
    wild = split(BARS, drawn_splits(5, (4.0, 0.5))).filter(pl.col("date") > DAYS[cut])
    wild = wild.with_columns(pl.col(name) * 3 for name in ("open", "high", "low", "close", "vwap"))
    newcomer = wild.filter(symbol="S01").with_columns(symbol=pl.lit("Z new"))
    later = pl.concat([wild.filter(pl.col("symbol") != "S02"), newcomer])
    first = BARS.filter(pl.col("date") <= DAYS[cut])
    short = market(tmp_path, first, **terms)
    if how == "append":
        long = publish(
            tmp_path, "demo", later.sample(fraction=1, shuffle=True, seed=1), append=True, accept=["adjustment"]
        )
    else:
        long = market(tmp_path, pl.concat([first, later]).sample(fraction=1, shuffle=True, seed=1), **terms)
    assert long.last_date == DAYS[89]
    before = long.bars("members").filter(pl.col("date") <= DAYS[cut])
    assert before.equals(short.bars("members"))
    (panel, labels), (whole, longer) = (load_panel(one, "members") for one in (short, long))
    rows, lanes = panel.shape[1], len(panel.symbols)
    assert whole.symbols[:lanes] == panel.symbols
    for expr in every_alpha(panel):
        found, expected = evaluate(expr, whole), evaluate(expr, panel)
        np.testing.assert_array_equal(found[:, :rows, :lanes], expected[:, :, :lanes], err_msg=str(expr))
    for place, horizon in enumerate(labels.horizons):
        known = rows - 1 - horizon
        np.testing.assert_array_equal(longer.returns[place, :known, :lanes], labels.returns[place, :known, :lanes])


def measured(version, formula, universe="members"):
    """Every coefficient and return of every day, bit by bit, and what they come to."""
    panel, labels = load_panel(version, universe)
    values = evaluate(parse(formula, panel.fields), panel)
    series, found = daily_metrics(values, labels, panel), measure(values, labels, panel)
    return [getattr(series, name).tobytes() for name in series.__slots__], repr((found.splits, found.evidence))


def wild(seed, condition):
    """Prices and a signal of a million, of either sign for the signal, where the condition holds."""
    draw = np.random.default_rng(seed)
    million = pl.Series(draw.choice([-1e6, 1e6], BARS.height))
    signal = pl.Series(np.random.default_rng(9).normal(size=BARS.height))
    return BARS.with_columns(
        *(pl.when(condition).then(1e6).otherwise(pl.col(name)).alias(name) for name in PRICES if name in BARS.columns),
        signal=pl.when(condition).then(million).otherwise(signal),
    )


OUTSIDERS = pl.col("symbol").is_in(SYMBOLS[15:])


def test_who_is_no_member_moves_no_coefficient_and_no_return(tmp_path):
    plain = market(tmp_path / "plain", wild(0, pl.lit(value=False)))
    found = market(tmp_path / "wild", wild(1, OUTSIDERS))
    for formula in ("$signal", "RANK($signal)", "ZSCORE(TS_MEAN($signal, 3))", "GROUP_RANK($close, $sector)"):
        assert measured(found, formula) == measured(plain, formula)
        assert measured(found, formula, "all") != measured(plain, formula, "all")


@pytest.mark.parametrize("column", ["suspended", "limited"])
def test_what_cannot_be_traded_moves_no_coefficient_and_no_return(tmp_path, column):
    """A signal on a bar that nobody can trade; the price of such a bar is what is held is worth, and may matter."""
    rules = "cn" if column == "limited" else "none"
    plain = market(tmp_path / "plain", wild(0, pl.lit(value=False)), rules=rules)
    with plain.connect() as con:  # as it is kept, or what was forgotten on the way to the panel would be forgotten here
        closed = to_frame(con.sql(f"SELECT date, symbol, true AS closed FROM bars WHERE {column}"))
    assert closed.height > 50
    marks = BARS.join(closed, on=["date", "symbol"], how="left", maintain_order="left")["closed"].fill_null(value=False)
    changed = wild(0, pl.lit(value=False)).with_columns(signal=pl.when(marks).then(1e6).otherwise("signal"))
    found = market(tmp_path / "wild", changed, rules=rules)
    assert found.id != plain.id
    assert measured(found, "$signal") == measured(plain, "$signal")
    blind = market(tmp_path / "blind", changed.with_columns(suspended=pl.lit(value=False)))
    assert measured(blind, "$signal") != measured(plain, "$signal")


@pytest.mark.parametrize("seed", range(3))
def test_rows_and_columns_in_any_order_are_the_same_market(tmp_path, version, seed):
    order = np.random.default_rng(seed).permutation(BARS.columns).tolist()
    shuffled = BARS.sample(fraction=1, shuffle=True, seed=seed).select(order)
    tables = {name: rows.sample(fraction=1, shuffle=True, seed=seed) for name, rows in REFERENCE.items()}
    assert market(tmp_path, shuffled, **tables).id == version.id

"""Rule sets: how the markets of a country trade, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from factors.errors import SettingError


@dataclass(frozen=True, slots=True)
class Band:
    """How far from the close of the day before the price of some instruments may go.

    Attributes:
        width: of the band on either side, a fraction; ``None`` where there is no limit.
        where: which instruments on which days, in SQL over ``symbol``, ``day``, ``st`` (under special treatment),
            ``listed`` (the day of its first bar) and ``age`` (its days up to that one, from 1). The latter two are
            null where the bars of the market begin no earlier, and ``age`` a month after.
    """

    width: float | None
    where: str


@dataclass(frozen=True, slots=True)
class RuleSet:
    """How a market trades.

    Attributes:
        name: what it is called.
        exchange: whose calendar holds, an ISO 10383 code, or ``24/7``; ``None`` where it is not known.
        settlement: days until what was bought may be sold.
        bands: price limits; the first band that an instrument fits holds. A bar that opens or closes at the limit
            cannot be traded: there is nobody on the other side.
        tick: smallest step of a price, to which limits are rounded.
    """

    name: str
    exchange: str | None = None
    settlement: int = 0
    bands: tuple[Band, ...] = ()
    tick: float = 0.01


# However vendors spell it: SH600000, sh.600000, 600000.SH, 600000.
_CODE: Final = r"regexp_extract(symbol, '(\d{6})', 1)"
_STAR: Final = f"regexp_matches({_CODE}, '^68[89]')"
_CHINEXT: Final = f"regexp_matches({_CODE}, '^30')"
_CHINEXT_REFORM: Final = date(2020, 8, 24)
_REGISTRATION: Final = date(2023, 4, 10)  # from here on main boards list as the others do

NO_RULES: Final = "none"  #: every bar can be traded, and no calendar is known

RULE_SETS: Final[Mapping[str, RuleSet]] = {
    rules.name: rules
    for rules in (
        RuleSet(NO_RULES),
        RuleSet("us", exchange="XNYS"),
        RuleSet(
            "cn",
            exchange="XSHG",
            settlement=1,
            bands=(
                # Rules of the Shanghai (STAR: chapter 6, 2019), Shenzhen (ChiNext: chapter 2, 2020) and Beijing
                # exchanges, and of 2023 for main boards; stocks under special treatment keep their board's band on
                # ChiNext and STAR.
                Band(0.30, f"regexp_matches({_CODE}, '^(43|8|92)')"),
                Band(
                    None,
                    f"age <= 5 AND ({_STAR} OR ({_CHINEXT} AND listed >= DATE '{_CHINEXT_REFORM}') "
                    f"OR listed >= DATE '{_REGISTRATION}')",
                ),
                Band(0.20, _STAR),
                Band(0.20, f"{_CHINEXT} AND day >= DATE '{_CHINEXT_REFORM}'"),
                Band(0.05, "st"),
                Band(0.10, "true"),
            ),
        ),
        RuleSet("crypto", exchange="24/7"),
    )
}


def rule_set(name: str) -> RuleSet:
    """The rule set of that name.

    Raises:
        SettingError: there is none.
    """
    if name not in RULE_SETS:
        raise SettingError(f"no rule set {name!r}; expected one of {', '.join(RULE_SETS)}")
    return RULE_SETS[name]

"""How a factor's information coefficient changes over the years."""

from collections.abc import Iterable

from factors.evaluation import YearMetrics


def yearly_slope(years: Iterable[YearMetrics]) -> float | None:
    """Change of the mean rank IC a year: the slope of its weighted least-squares line over calendar years.

    Each year weighs as many days as it has. A year that two splits share is two points. ``None`` for fewer than two
    different years with a rank IC.
    """
    known = [(one.year, one.rank_ic, one.days) for one in years if one.rank_ic is not None and one.days]
    weight = sum(days for _, _, days in known)
    if not weight:
        return None
    middle = sum(year * days for year, _, days in known) / weight
    mean = sum(rank_ic * days for _, rank_ic, days in known) / weight
    spread = sum(days * (year - middle) ** 2 for year, _, days in known)
    together = sum(days * (year - middle) * (rank_ic - mean) for year, rank_ic, days in known)
    return together / spread if spread else None

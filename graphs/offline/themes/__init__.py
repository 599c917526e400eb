"""The library of market hypotheses that the offline researcher draws from, by family."""

from graphs.offline.themes.agreement import AGREEMENT
from graphs.offline.themes.momentum import MOMENTUM
from graphs.offline.themes.reversal import REVERSAL
from graphs.offline.themes.session import SESSION
from graphs.offline.themes.shape import SHAPE
from graphs.offline.themes.theme import Theme, joined
from graphs.offline.themes.volatility import VOLATILITY
from graphs.offline.themes.volume import VOLUME

THEMES: tuple[Theme, ...] = (*MOMENTUM, *REVERSAL, *VOLATILITY, *VOLUME, *AGREEMENT, *SESSION, *SHAPE)

__all__ = ["THEMES", "Theme", "joined"]

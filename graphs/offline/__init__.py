"""The offline researcher: a seeded search over a library of market hypotheses, for runs without a language model."""

from graphs.offline.search import OfflineResearcher

__all__ = ["OfflineResearcher"]

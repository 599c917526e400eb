"""The team's library as people read it: each factor with what has become of it."""

from collections.abc import Iterable
from typing import Literal

from factors.hypothesis import Factor
from storage.records import Records

FactorStatus = Literal["lead", "live", "rejected", "retired"]
"""Passed in sample; held up on the hold-out; did not; or is used no more, whatever it was."""


class LibraryFactor(Factor):
    """A factor of the library and its status, which only people are told: the hold-out has its say in it."""

    status: FactorStatus


def with_status(records: Records, found: Iterable[Factor]) -> list[LibraryFactor]:
    """These factors with their status."""
    opened, retired = records.openings.statuses(), records.retirements.ids()

    def status(factor: Factor) -> FactorStatus:
        return "retired" if factor.id in retired else opened.get(factor.id, "lead")

    return [LibraryFactor(**dict(factor), status=status(factor)) for factor in found]

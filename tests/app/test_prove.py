"""``alphaagent prove``: the certificate as a table and as JSON, and its exit status."""

import re

import pytest

from app import cli as command_line
from factors.causality import prove
from factors.certificate import Certificate
from storage.markets import open_market
from tests.factors.test_causality import over_time, tomorrow

FORMULA = "-RANK(TS_MEAN($return, 5))"


@pytest.fixture(scope="module")
def home(new_home):
    """A home with the market ``small`` that no test changes."""
    return new_home()


@pytest.fixture
def leaky(monkeypatch):
    """Every formula reads tomorrow's close."""
    monkeypatch.setattr(command_line, "prove", lambda _, panel, **more: prove(over_time(tomorrow), panel, **more))


def test_prove_prints_a_genuine_certificate_as_json(home, alphaagent):
    answer = alphaagent(home, "prove", FORMULA, "--market", "small", "--dates", "4", "--seed", "5", "--json")
    assert (answer.status, answer.err) == (0, "")
    certificate = Certificate.model_validate(answer.json)
    assert certificate.genuine()
    assert certificate.proven
    snapshot = open_market(home, "small")
    assert (certificate.formula, certificate.market, certificate.snapshot) == (FORMULA, "small", snapshot.id)
    assert (certificate.universe, certificate.seed, len(certificate.dates)) == (snapshot.universes[0], 5, 4)


def test_prove_prints_a_table_and_the_same_each_time(home, cli):
    first, again = (cli(home, "prove", FORMULA, "--market", "small") for _ in range(2))
    assert first == again
    assert first.status == 0
    assert first.out.startswith(f"{FORMULA}\n")
    for name in ("later_noise", "later_cut", "earlier_cut", "non_members", "label_lag"):
        assert re.search(rf"{name} +│ passed +│ +[\d,]+ +│ ", first.out), first.out
    assert re.search(
        r"\nproven at (\d{4}-\d\d-\d\d, ){2}\d{4}-\d\d-\d\d; seed 0, certificate [0-9a-f]{16}\n", first.out
    )


@pytest.mark.usefixtures("leaky")
def test_prove_of_a_leak_ends_with_1_and_names_the_date(home, cli):
    answer = cli(home, "prove", FORMULA, "--market", "small")
    assert (answer.status, answer.err) == (1, "")
    assert re.search(r"later_cut +│ failed ", answer.out)
    assert "refuted at 20" in answer.out
    assert "\nnot proven at 20" in answer.out


def test_prove_of_a_formula_without_values_ends_with_1(home, cli):
    answer = cli(home, "prove", "LOG(-ABS($close))", "--market", "small")
    assert answer.status == 1
    assert "not proven at no date" in answer.out


@pytest.mark.parametrize("arguments", [
    ("RANK($clsoe)", "--market", "small"),
    (FORMULA, "--market", "smal"),
    (FORMULA, "--market", "small", "--universe", "none"),
    (FORMULA, "--market", "small", "--dates", "0"),
])  # fmt: skip
def test_prove_of_what_cannot_be_is_one_line_and_ends_with_2(home, cli, arguments):
    answer = cli(home, "prove", *arguments)
    assert (answer.status, answer.out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", answer.err), answer.err

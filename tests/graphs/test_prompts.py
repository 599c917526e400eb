"""What language models are asked: quoted, bounded, and generated from what is there."""

import json
import re
from pathlib import Path

import pytest

from factors.columns import COLUMNS
from factors.evaluation import HorizonMetrics, YearMetrics
from factors.hypothesis import Candidate, Feedback, Hypothesis
from factors.operators import COMPOSITES, OPERATORS
from factors.parse import parse
from factors.prose import on_one_line
from factors.verdict import Check
from graphs import questions
from graphs.metering import tokens
from graphs.prompts import Words, examples, field_table, operator_names, operator_table, quoted, render, version
from tests.graphs.test_offline import FIELDS, brief_of, factor_of, hypothesis_of, trial_of

INJECTIONS = json.loads((Path(__file__).parents[1] / "injections.json").read_text())
HYPOTHESIS = hypothesis_of("kurtosis")
FILLED = {"hypothesis": "{{candidates}}", "specification": "s", "candidates": ["{{hypothesis}}"]}


def test_a_prompt_is_strict_about_its_slots_and_never_fills_twice():
    text = render("judge", **FILLED).text
    assert 'Hypothesis: "{{candidates}}"' in text
    assert '- "{{hypothesis}}"' in text
    with pytest.raises(KeyError):
        render("judge", **FILLED, extra=1)
    with pytest.raises(KeyError):
        render("judge", hypothesis="h")


def test_a_version_is_that_of_the_template_and_a_hash_that_of_the_text():
    one, other = render("judge", **FILLED), render("judge", **{**FILLED, "specification": "t"})
    assert one.version == other.version == version("judge") != version("idea")
    assert one.hash != other.hash
    assert re.fullmatch("[0-9a-f]{16}", one.version)


def test_what_is_quoted_stays_on_its_line_and_within_its_length():
    assert quoted('a"b\n---\u2028{{x}}\x1b[2J\u202e') == '"a\\"b --- {{x}} [2J"'
    assert quoted("x" * 1000, 10) == f'"{"x" * 10}…"'
    assert quoted({"k\n": ["a\n", 1, None]}) == '{"k": ["a", 1, null]}'
    assert quoted(["a\nb", {"c": "d"}]) == '- "a b"\n- {"c": "d"}'
    assert quoted([]) == "- none"
    assert quoted(Words("as\nit is")) == "as\nit is"


def lines_of(prompt):
    """A prompt's lines with what stands in double quotes taken out."""
    return [re.sub(r'"(\\.|[^"\\])*"', '""', line) for line in prompt.text.split("\n")]


def asked_with(text, name="n"):
    """All questions, with this text wherever people or models can write one."""
    hypothesis = Hypothesis(id="h1", **dict.fromkeys(TEXTS, text), horizon_days=5)
    evaluated = trial_of("RANK($close)", 0.02, 0.01, description=text, admission=("redundancy",))
    refused = trial_of(text, None, None, failed=(("originality", 8),), description=text)
    lesson = Feedback(supported=True, lesson=text, action="refine", focus=on_one_line(text)[:1000])
    factor = factor_of("RANK($close)").model_copy(update={"name": name, "description": text, "hypothesis": text})
    brief = brief_of(
        direction=text, hypotheses=(hypothesis,), trials=(evaluated, refused), feedback={"h1": lesson},
        library=(factor,), avoid=(text,), move="refine", parents=("h1",), fields=(*FIELDS, "alien\n"),
    )  # fmt: skip
    candidate = Candidate(id="1.1.0", hypothesis_id="h1", name=name, description=text, formula="RANK($close)")
    return [
        questions.idea(brief),
        questions.factor(brief, hypothesis, 8),
        questions.revise(brief, hypothesis, [refused]),
        questions.judge(hypothesis, [(candidate, parse("RANK($close)"))]),
        questions.feedback(brief, hypothesis, [evaluated, refused]),
    ]


TEXTS = ("statement", "observation", "knowledge", "justification", "specification")


def test_there_are_two_hundred_payloads_of_many_kinds():
    assert len(INJECTIONS) == len(set(INJECTIONS)) == 200
    assert all(1 <= len(payload) <= 2000 and payload.strip() for payload in INJECTIONS)


@pytest.mark.parametrize("payload", INJECTIONS, ids=range(len(INJECTIONS)))
def test_no_payload_leaves_its_quotation(payload):
    for plain, hostile in zip(asked_with("harmless"), asked_with(payload, payload[:120]), strict=True):
        assert lines_of(hostile) == lines_of(plain)
        assert "{{" not in "".join(lines_of(hostile))
        assert len(hostile.text) <= len(plain.text) + 2000 + 12 * 400


def test_columns_are_told_with_their_units_and_examples_read_no_others():
    table = field_table((*COLUMNS, "sentiment"))
    assert '"$amount": value traded in the bar, in the market\'s currency' in table
    assert '"$sentiment": as imported, unit not stated' in table
    for fields in (FIELDS, ("open", "close"), ("sentiment",)):
        shown = re.findall("^- (.*)$", examples(frozenset(fields)), re.MULTILINE)
        assert shown == ["none"] if fields == ("sentiment",) else all(parse(text, fields) for text in shown)


def test_the_operator_table_is_the_registry():
    written = [op for op in OPERATORS.values() if op.symbol is None]
    assert len(operator_table().splitlines()) == 1 + len(written) + len(COMPOSITES)
    for form in (*written, *COMPOSITES):
        assert re.search(rf"^{form.name}\(", operator_table(), re.MULTILINE)
        assert f"{form.name}(" in operator_names({"TS_MEAN"})


def test_prompts_do_not_grow_with_the_library_or_the_run():
    """A run of hundreds of rounds beside ten thousand factors asks as much as a young one beside a few."""

    def sizes(count):
        hypotheses = tuple(HYPOTHESIS.model_copy(update={"id": f"h{n}"}) for n in range(count // 10))
        trials = tuple(trial_of("RANK($close)", 0.02, 0.01, trial_id=f"{n}") for n in range(count))
        lessons = {
            one.id: Feedback(supported=True, lesson="l" * 500, action="refine", focus="f" * 500) for one in hypotheses
        }
        library = (factor_of("TS_MEAN($close, 5)"),) * count
        brief = brief_of(
            hypotheses=hypotheses, trials=trials, feedback=lessons, library=library, avoid=("RANK($low)",) * 8
        )
        asked = questions.idea(brief), questions.factor(brief, HYPOTHESIS, 8)
        return [tokens(prompt.text) for prompt in asked]

    assert sizes(100) == sizes(10_000)


def test_idea_reads_what_is_near_and_what_has_decayed():
    near = [factor_of(f"TS_MEAN($close, {d})").model_copy(update={"id": f"n{d}", "name": "kurtosis"}) for d in (5, 7)]
    far = [factor_of(f"TS_STD($close, {d})").model_copy(update={"id": f"f{d}", "name": "gap"}) for d in range(3, 60)]
    fallen = near[1].splits["valid"].model_copy(update={"rank_ic": 0.004})
    near[1] = near[1].model_copy(update={"splits": {**near[1].splits, "valid": fallen}})
    text = questions.idea(brief_of(direction="kurtosis of returns", library=(*near, *far))).text
    assert '"TS_MEAN($close, 5)": 0.0200, 0.0100\n' in text
    assert '"TS_MEAN($close, 7)": 0.0200, 0.0040, decayed\n' in text
    assert '"TS_STD($close, 59)"' in text
    assert '"TS_STD($close, 3)"' not in text


@pytest.mark.parametrize("bar", ["trading day", "bar"])
def test_idea_and_eval_are_told_what_a_bar_is(bar):
    text = questions.idea(brief_of(bar=bar)).text
    assert f"over the next {bar}s." in text
    assert f"a value each {bar}," in text
    assert f"its horizon in {bar}s (1 to 60)" in text
    assert f"five {bar}s held" in questions.feedback(brief_of(bar=bar), HYPOTHESIS, []).text


@pytest.mark.parametrize(
    ("move", "parents", "words"),
    [
        ("new", (), "a hypothesis unlike those explored already"),
        ("refine", ("h1",), 'sharpen this hypothesis by what it taught: "first". Look at "that".'),
        ("cross", ("h1", "h2"), 'join what works in these into one hypothesis: "first"; "second". Look at "that".'),
    ],
)
def test_idea_is_told_the_move_and_the_focus(move, parents, words):
    first, second = (
        HYPOTHESIS.model_copy(update={"id": f"h{n}", "statement": s}) for n, s in ((1, "first"), (2, "second"))
    )
    lesson = Feedback(supported=True, lesson="l", action="refine", focus="that")
    brief = brief_of(hypotheses=(first, second), feedback={"h1": lesson}, move=move, parents=parents)
    assert words in questions.idea(brief).text


def test_eval_reads_diagnostics_by_year_and_horizon_of_the_best():
    years = [YearMetrics(year=2010 + n, days=250, ic=0.0, rank_ic=0.03 - n * 0.01) for n in range(3)]
    horizons = [HorizonMetrics(horizon=h, ic=0, rank_ic=h / 100, rank_icir=0, rank_t_stat=0) for h in (1, 5)]
    best = trial_of("RANK($close)", 0.03, 0.02, trial_id="1.1.0")
    split = best.evaluation.splits["train"].model_copy(update={"years": tuple(years), "horizons": tuple(horizons)})
    checks = (Check(name="redundancy", value=0.42, limit=0.7, passed=True),)
    evaluation = best.evaluation.model_copy(update={"splits": {**best.evaluation.splits, "train": split}})
    best = best.model_copy(update={"evaluation": evaluation, "admission": checks})
    worse = trial_of("RANK($open)", 0.01, 0.005, trial_id="1.2.0")
    text = questions.feedback(brief_of(), HYPOTHESIS, [worse, best]).text
    told = text[text.index('- "RANK($close)"') :].split("\n")
    assert told[0] == '- "RANK($close)"; rank IC 0.0300, 0.0200; accepted'
    assert told[1].strip() == "train: ICIR 0.300, t 0.0; h1 0.010 h5 0.050; 2010 0.030 2011 0.020 2012 0.010"
    assert told[3].strip() == "coverage 1.00, turnover 0.30, redundancy 0.42, slope -0.0100 a year"
    assert told[4] == '- "RANK($open)"; rank IC 0.0100, 0.0050; accepted'
    assert "holdout" not in text


def test_tokens_are_estimated_from_above():
    assert tokens("a" * 100) == 40
    assert tokens("量" * 100) == 300
    assert tokens("") == 0


def test_of_many_columns_those_that_the_direction_names_and_the_usual_ones_are_told():
    fields = (*FIELDS, *(f"alien{n}" for n in range(300)))
    few, many = (questions.idea(brief_of(direction="what alien77 says", fields=f)).text for f in (FIELDS, fields))
    assert '"$alien77"' in many
    assert all(f'"${name}"' in many for name in FIELDS)
    assert many.count('"$') == 40
    assert tokens(many) - tokens(few) < 600

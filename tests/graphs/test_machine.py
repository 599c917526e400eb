import time
from dataclasses import dataclass, field, replace

import pytest

from factors.errors import ResearcherError
from factors.hypothesis import Factor, Feedback, Lineage, factor_id
from factors.parse import parse
from graphs.machine import graph
from graphs.researcher import Alignment, Draft, Idea
from graphs.state import Round, initial_state, known
from storage.runs import Allowance
from tests.telling import documented

# The market is synthetic and the same on every machine: these two hold up on it, the others do not.
OVERREACTION = "-DECAYLINEAR($return * TS_RANK($volume, 40), 5)"
TWIN = "-DECAYLINEAR($return * TS_RANK(MAX($volume, 0), 40), 5)"  # the same values in other words
LOUD = "-TS_CORR($return, $volume, 20)"
WEAK = ["RANK($open)", "RANK($high)", "RANK($low)", "RANK($close)", "TS_STD($close, 20)", "TS_MEAN($low, 20)"]
LONG = "TS_MEAN($close, 300)"  # looks back further than the gate allows
UNREADABLE = "RANK($clsoe)"


@dataclass
class Scripted:
    """Plays the agents from a script, and keeps what it was asked.

    ``rounds`` are each round's formulas, ``rewrites`` what a refused formula becomes (absent: given up),
    ``agreement`` how well a formula fits (absent: 1), ``moments`` what happens when a method is called.
    """

    rounds: list[list[str]]
    rewrites: dict[str, str] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    moments: dict[str, object] = field(default_factory=dict)
    prompts: dict = field(default_factory=dict)
    briefs: list = field(default_factory=list)
    judged: list = field(default_factory=list)
    revised: list = field(default_factory=list)
    reflected: list = field(default_factory=list)

    def _moment(self, method, number):
        happening = self.moments.get(f"{method} {number}")
        if happening:
            happening()

    def propose(self, brief):
        self.briefs.append(brief)
        self._moment("propose", brief.round)
        words = dict.fromkeys(("observation", "knowledge", "justification", "specification"), "-")
        return Idea(statement=f"idea {brief.round}", horizon_days=1, **words)

    def draft(self, brief, hypothesis, count):
        assert hypothesis.id == f"h{brief.round}"
        assert count > 0
        self._moment("draft", brief.round)
        return [
            Draft(name=f"draft {n}", description="d", formula=text)
            for n, text in enumerate(self.rounds[brief.round - 1])
        ]

    def revise(self, brief, hypothesis, refused):
        assert hypothesis.id == f"h{brief.round}"
        self.revised.append(refused)
        self._moment("revise", brief.round)
        texts = [self.rewrites.get(trial.candidate.formula) for trial in refused]
        return [text and Draft(name="rewrite", description="d", formula=text) for text in texts]

    def judge(self, hypothesis, candidates):
        found = []
        for candidate, expr in candidates:
            assert str(expr) == candidate.formula
            self.judged.append(candidate.id)
            agreement = self.agreement.get(candidate.formula, 1.0)
            self._moment("judge", candidate.id)
            found.append(
                Alignment(
                    hypothesis_description=agreement,
                    hypothesis_reason=f"not {hypothesis.id}",
                    description_formula=agreement,
                    formula_reason="not that formula",
                )
            )
        return found

    def reflect(self, brief, hypothesis, trials):
        assert hypothesis.id == f"h{brief.round}"
        self.reflected.append(trials)
        self._moment("reflect", brief.round)
        return Feedback(supported=False, lesson=f"lesson {brief.round}", action="refine")


def events_of(bench):
    return [event for event in documented(bench.records.events(bench.run.id)) if not event.type.startswith("run.")]


def told(bench):
    """The run's events in short: type, and the candidate or what else it is about."""
    short = {
        "hypothesis.proposed": lambda data: data["hypothesis"]["id"],
        "candidate.drafted": lambda data: data["candidate"]["id"],
        "candidate.judged": lambda data: f"{data['candidate_id']} {'passed' if data['accepted'] else 'refused'}",
        "candidate.evaluated": lambda data: data["evaluation"]["candidate_id"],
        "factor.accepted": lambda data: data["factor"]["formula"],
        "round.completed": lambda data: str(data["round"]),
        "agent.failed": lambda data: data["agent"],
    }
    return [f"{event.type} {short[event.type](event.data)}".strip() for event in events_of(bench)]


def failed(trial):
    return [check.name for check in (*trial.verdict.checks, *trial.admission) if not check.passed]


def ids(trials):
    return [trial.candidate.id for trial in trials]


def test_the_graph_draws_the_loop_and_the_way_back():
    edges = {(edge.source, edge.target) for edge in graph.get_graph().edges}
    assert {
        ("__start__", "plan"),
        ("plan", "idea"),
        ("plan", "__end__"),
        ("idea", "factor"),
        ("idea", "evaluate"),
        ("factor", "regularize"),
        ("regularize", "factor"),
        ("regularize", "evaluate"),
        ("evaluate", "feedback"),
        ("feedback", "plan"),
    } == edges


def test_a_round_is_told_in_order_and_completely(bench_of, mined):
    bench = bench_of(Scripted([[WEAK[0], OVERREACTION, LONG], [LOUD]]), rounds=2, attempts=0)
    state = mined(bench)
    assert told(bench) == [
        "hypothesis.proposed h1",
        "candidate.drafted 1.1.0",
        "candidate.drafted 1.2.0",
        "candidate.drafted 1.3.0",
        "candidate.judged 1.1.0 passed",
        "candidate.judged 1.2.0 passed",
        "candidate.judged 1.3.0 refused",
        "candidate.evaluated 1.1.0",
        "candidate.evaluated 1.2.0",
        f"factor.accepted {OVERREACTION}",
        "round.completed 1",
        "hypothesis.proposed h2",
        "candidate.drafted 2.1.0",
        "candidate.judged 2.1.0 passed",
        "candidate.evaluated 2.1.0",
        f"factor.accepted {LOUD}",
        "round.completed 2",
    ]
    assert (state["stopped"], state["round"]) == ("rounds", 2)
    assert bench.records.run(bench.run.id).accepted == tuple(state["accepted"])
    assert state["accepted"] == [factor_id("small", parse(OVERREACTION)), factor_id("small", parse(LOUD))]


def test_every_trial_is_recorded_as_it_was_told(bench_of, mined):
    bench = bench_of(Scripted([[WEAK[0], OVERREACTION, LONG, UNREADABLE]]))
    state = mined(bench)
    found, _ = bench.records.candidates(bench.run.id)
    assert [(record.candidate, record.verdict, record.evaluation, record.admission) for record in found] == [
        (trial.candidate, trial.verdict, trial.evaluation, trial.admission) for trial in state["trials"]
    ]
    assert {record.candidate.formula: record.accepted for record in found} == {
        WEAK[0]: False,
        OVERREACTION: True,
        LONG: False,
        UNREADABLE: False,
    }
    verdicts = {
        event.data["candidate_id"]: event.data["verdict"] for event in events_of(bench) if "verdict" in event.data
    }
    assert verdicts == {record.candidate.id: record.verdict.model_dump(mode="json") for record in found}


def test_a_refused_candidate_goes_back_with_its_hints_and_only_it_is_rewritten(bench_of, mined):
    researcher = Scripted([[OVERREACTION, LONG, UNREADABLE]], rewrites={LONG: "TS_MEAN($close, 30)"})
    bench = bench_of(researcher)
    mined(bench)
    [refused] = researcher.revised
    assert ids(refused) == ["1.2.0", "1.3.0"]
    assert "look_back: look back at most 260 rows" in refused[0].verdict.feedback()
    assert "unknown field $clsoe" in refused[1].verdict.feedback()
    assert told(bench)[4:10] == [
        "candidate.judged 1.1.0 passed",
        "candidate.judged 1.2.0 refused",
        "candidate.judged 1.3.0 refused",
        "candidate.drafted 1.2.1",
        "candidate.judged 1.2.1 passed",
        "candidate.evaluated 1.1.0",
    ]
    assert researcher.judged == ["1.1.0", "1.2.1"]


@pytest.mark.parametrize("attempts", [0, 1, 3, 10])
def test_a_candidate_is_rewritten_at_most_so_many_times(bench_of, attempts, mined):
    researcher = Scripted([[OVERREACTION, LONG], [LOUD, LONG]], rewrites={LONG: LONG})
    state = mined(bench_of(researcher, attempts=attempts, rounds=2))
    assert [ids(refused) for refused in researcher.revised] == [
        [f"{number}.2.{attempt}"] for number in (1, 2) for attempt in range(attempts)
    ]
    assert [trial.candidate.attempt for trial in state["trials"] if LONG in trial.candidate.formula] == [
        *range(attempts + 1),
        *range(attempts + 1),
    ]
    assert state["stopped"] == "rounds"


def test_a_rewritten_candidate_passes_the_whole_gate_again(bench_of, mined):
    second, third = "TS_MEAN($open, 300)", "RANK($low)"
    researcher = Scripted([[LONG]], rewrites={LONG: second, second: third}, agreement={third: 0.2})
    state = mined(bench_of(researcher, attempts=2))
    assert [(trial.candidate.formula, failed(trial)) for trial in state["trials"]] == [
        (LONG, ["look_back"]),
        (second, ["look_back"]),
        (third, ["alignment"]),
    ]
    assert state["trials"][-1].verdict.feedback() == (
        "alignment: description against hypothesis: not h1; formula against description: not that formula"
    )
    assert researcher.judged == ["1.1.2"]


def test_a_rewrite_into_another_candidate_of_the_batch_is_refused(bench_of, mined):
    state = mined(bench_of(Scripted([[OVERREACTION, LONG]], rewrites={LONG: OVERREACTION}), attempts=1))
    assert [failed(trial) for trial in state["trials"][:2]] == [["look_back"], ["duplicate"]]
    assert "candidate 1.1.0 of this round" in state["trials"][1].verdict.feedback()
    assert state["accepted"] == [factor_id("small", parse(OVERREACTION))]


def test_the_same_formula_is_measured_once(bench_of, mined):
    spelled = OVERREACTION.replace(" ", "").replace("DECAYLINEAR", "WMA")
    researcher = Scripted([[OVERREACTION, spelled, WEAK[0]], [WEAK[0], OVERREACTION, LOUD]])
    bench = bench_of(researcher, rounds=2, attempts=0)
    state = mined(bench)
    refused = [trial for trial in state["trials"] if trial.evaluation is None]
    assert ids(refused) == ["1.2.0", "2.1.0", "2.2.0"]
    assert all("duplicate" in failed(trial) for trial in refused)
    words = [trial.verdict.feedback() for trial in refused]
    assert "candidate 1.1.0 of this round" in words[0]
    assert "candidate 1.3.0 of this run" in words[1]
    assert len({trial.candidate.formula for trial in state["trials"] if trial.evaluation}) == 3
    assert bench.records.run(bench.run.id).evaluations == 3


def test_what_the_library_holds_is_neither_measured_nor_accepted_again(bench_of, records, mined):
    first = bench_of(Scripted([[OVERREACTION]]))
    mined(first)
    library = records.library("small")
    state = mined(bench_of(Scripted([[OVERREACTION, TWIN]]), library=library, attempts=0))
    assert {trial.candidate.formula: failed(trial) for trial in state["trials"]} == {
        OVERREACTION: ["duplicate", "originality", "variation"],
        TWIN: ["redundancy", "marginal"],
    }
    assert state["accepted"] == []
    assert records.library("small") == library


def test_of_two_that_differ_in_numbers_alone_one_is_accepted(bench_of, mined):
    """The gate lets both pass, as neither was known; and their values are not alike enough to be redundant."""
    varied = OVERREACTION.replace("5)", "30)")
    assert mined(bench_of(Scripted([[varied]])))["accepted"]
    best, other = mined(bench_of(Scripted([[varied, OVERREACTION]])))["trials"]
    assert best.reward >= other.reward
    assert (failed(best), failed(other)) == ([], ["variation"])


def test_of_two_that_move_together_the_better_is_accepted(bench_of, mined):
    twins = [OVERREACTION, TWIN]
    state = mined(bench_of(Scripted([twins])))
    best, other = state["trials"]
    assert best.reward >= other.reward
    assert (failed(best), failed(other)) == ([], ["redundancy", "marginal"])
    assert state["accepted"] == [factor_id("small", parse(best.candidate.formula))]


def test_an_accepted_factor_carries_what_was_measured(bench_of, snapshot, records, mined):
    bench = bench_of(Scripted([[OVERREACTION]], prompts={"idea": "v1"}))
    [trial] = mined(bench)["trials"]
    [factor] = records.library("small")
    assert factor == Factor(
        id=factor_id("small", parse(OVERREACTION)),
        market="small",
        name="draft 0",
        description="d",
        formula=OVERREACTION,
        hypothesis="idea 1",
        run_id=bench.run.id,
        snapshot=snapshot.id,
        universe="synthetic200",
        horizon=1,
        penalty=trial.verdict.penalty,
        splits=trial.evaluation.splits,
        created_at=factor.created_at,
        lineage=Lineage(
            round=1,
            candidate="1.1.0",
            parents=(),
            hypothesis="h1",
            move="new",
            hypothesis_parents=(),
            prompts={"idea": "v1"},
        ),
        evidence=trial.evaluation.evidence,
        standing=trial.evaluation.standing,
        certificate=factor.certificate,
    )
    assert set(factor.splits) == {"train", "valid"}
    assert factor.certificate.genuine()
    assert factor.certificate.proven
    certified = ("formula", "market", "snapshot", "universe", "seed")
    assert [getattr(factor.certificate, name) for name in certified] == [
        OVERREACTION,
        "small",
        snapshot.id,
        "synthetic200",
        bench.run.seed,
    ]


def test_parts_that_recur_in_what_was_accepted_are_to_be_avoided(bench_of, records, mined):
    other = f"RANK({OVERREACTION}) * $open"
    mined(bench_of(Scripted([[OVERREACTION]])))
    [factor] = records.library("small")
    bench = bench_of(Scripted([]), library=[factor, factor.model_copy(update={"formula": other, "name": "other"})])
    begun = Round(number=1, move="new", parents=[], abreast=0)
    assert bench.brief(begun, known(initial_state())).avoid == (OVERREACTION,)


def test_a_round_of_refusals_still_ends(bench_of, mined):
    researcher = Scripted([[LONG, UNREADABLE], []])
    bench = bench_of(researcher, rounds=2)
    state = mined(bench)
    assert [ids(trials) for trials in researcher.reflected] == [["1.1.0", "1.2.0"], []]
    assert (state["stopped"], state["accepted"]) == ("rounds", [])
    assert told(bench)[-2:] == ["hypothesis.proposed h2", "round.completed 2"]


def test_more_drafts_than_asked_for_are_left_out(bench_of, mined):
    assert len(mined(bench_of(Scripted([WEAK]), candidates=2))["trials"]) == 2


def test_each_round_knows_what_the_rounds_before_taught(bench_of, panel, mined):
    researcher = Scripted([[OVERREACTION, LONG], [LOUD], []])
    state = mined(bench_of(researcher, rounds=3, attempts=0))
    assert [brief.round for brief in researcher.briefs] == [1, 2, 3]
    first, _, last = researcher.briefs
    assert (first.hypotheses, first.trials, first.feedback) == ((), (), {})
    assert [hypothesis.statement for hypothesis in last.hypotheses] == ["idea 1", "idea 2"]
    assert {name: feedback.lesson for name, feedback in last.feedback.items()} == {"h1": "lesson 1", "h2": "lesson 2"}
    assert [(brief.move, brief.parents) for brief in researcher.briefs] == [
        ("new", ()), ("refine", ("h1",)), ("refine", ("h2",))
    ]  # fmt: skip
    assert last.trials == tuple(state["trials"])
    assert (last.direction, last.seed, last.fields) == ("volume", 7, tuple(panel.fields))
    assert [ids(trials) for trials in researcher.reflected] == [["1.2.0", "1.1.0"], ["2.1.0"], []]


def test_no_more_is_measured_than_the_budget_allows(bench_of, mined):
    researcher = Scripted([WEAK[:2], WEAK[2:5], WEAK[5:]])
    bench = bench_of(researcher, rounds=3, evaluations=3)
    state = mined(bench)
    assert (state["stopped"], state["round"]) == ("evaluations", 2)
    assert bench.records.run(bench.run.id).evaluations == 3
    assert told(bench)[-1] == "round.completed 2"


def test_when_time_is_up_nothing_more_is_measured_or_rewritten(bench_of, mined):
    researcher = Scripted([[OVERREACTION, LONG], [LOUD]], rewrites={LONG: WEAK[0]})
    deadline = time.monotonic() + 1
    researcher.moments["draft 1"] = lambda: time.sleep(max(0.0, deadline - time.monotonic()))
    bench = bench_of(researcher, rounds=2, deadline=deadline)
    state = mined(bench)
    assert (state["stopped"], state["round"]) == ("seconds", 1)
    assert (bench.records.run(bench.run.id).evaluations, researcher.revised) == (0, [])


@pytest.mark.parametrize(
    ("moment", "evaluations"),
    [("propose 1", 0), ("judge 1.1.0", 0), ("reflect 1", 2), ("propose 2", 2), ("reflect 2", 3)],
)
def test_a_cancelled_run_ends_with_its_round(bench_of, moment, evaluations, mined):
    asked = []
    researcher = Scripted(
        [[OVERREACTION, LONG, WEAK[0]], [LOUD], [WEAK[1]]], moments={moment: lambda: asked.append(moment)}
    )
    bench = bench_of(researcher, rounds=3, cancelled=lambda: bool(asked))
    state = mined(bench)
    assert (state["stopped"], state["round"]) == ("cancelled", int(moment.partition(" ")[2][0]))
    assert bench.records.run(bench.run.id).evaluations == evaluations
    assert told(bench)[-1].startswith("round.completed")


@pytest.mark.parametrize(
    ("moment", "agent", "tried", "lessons"),
    [
        ("propose 2", "idea", [OVERREACTION, WEAK[0]], 2),
        ("draft 2", "factor", [OVERREACTION, WEAK[0]], 3),
        ("revise 2", "revise", [OVERREACTION, LONG, LOUD, WEAK[0]], 3),
        ("judge 2.2.0", "judge", [OVERREACTION, LONG, LOUD, WEAK[0]], 3),
        ("reflect 2", "feedback", [OVERREACTION, LONG, LOUD, WEAK[0]], 2),
    ],
)
def test_a_researcher_that_fails_is_told_and_the_run_goes_on(bench_of, moment, agent, tried, lessons, mined):
    def fail():
        raise ResearcherError("the model gave nothing", "empty")

    researcher = Scripted([[OVERREACTION], [LONG, LOUD], [WEAK[0]]], moments={moment: fail})
    bench = bench_of(researcher, rounds=3)
    state = mined(bench)
    failures = [event.data for event in bench.records.events(bench.run.id) if event.type == "agent.failed"]
    told = [{name: failure[name] for name in ("round", "agent", "kind", "message")} for failure in failures]
    assert {"round": 2, "agent": agent, "kind": "empty", "message": "the model gave nothing"} in told
    assert list(dict.fromkeys(trial.candidate.formula for trial in state["trials"])) == tried
    assert (len(state["feedback"]), state["stopped"]) == (lessons, "rounds")
    assert factor_id("small", parse(OVERREACTION)) in state["accepted"]
    judged = [failed(trial) for trial in state["trials"] if trial.candidate.formula == LOUD]
    assert all((checks == ["alignment"]) is (agent == "judge") for checks in judged)


def test_the_same_bench_gives_the_same_run(bench_of, mined):
    researcher = Scripted([[OVERREACTION, LONG], WEAK[:3]], rewrites={LONG: LOUD})
    first, second = (bench_of(replace(researcher), rounds=2) for _ in range(2))
    assert mined(first) == mined(second)
    assert told(first) == told(second)


def test_directions_go_side_by_side_and_meet_where_they_are_measured(bench_of, mined):
    """The second direction is rewritten twice, and what it shares with the first is accepted once."""
    researcher = Scripted(
        [[OVERREACTION, WEAK[0]], [LONG, TWIN], [WEAK[1]], [LOUD]], rewrites={LONG: UNREADABLE, UNREADABLE: WEAK[2]}
    )
    bench = bench_of(researcher, rounds=4, directions=3, attempts=3)
    state = mined(bench)
    assert (state["round"], state["stopped"]) == (4, "rounds")
    assert sorted(brief.round for brief in researcher.briefs) == [1, 2, 3, 4]
    assert [(b.move, b.trials, b.abreast) for b in sorted(researcher.briefs, key=lambda b: b.round)[:3]] == [
        ("new", (), 0), ("new", (), 1), ("new", (), 2)
    ]  # fmt: skip
    short = told(bench)
    first_measured = next(k for k, line in enumerate(short) if line.startswith("candidate.evaluated"))
    judged = [line for line in short[:first_measured] if line.startswith("candidate.judged")]
    assert "candidate.judged 2.1.2 passed" in judged
    assert len(judged) == 7
    assert len([line for line in short if line.startswith("factor.accepted")]) == len(state["accepted"]) == 2
    assert [line for line in short if line.startswith("round.completed")][-1] == "round.completed 4"
    assert short.index("hypothesis.proposed h4") > max(short.index(f"round.completed {n}") for n in (1, 2, 3))
    evaluations = [event.data["evaluation"]["formula"] for event in events_of(bench) if "evaluation" in event.data]
    assert len(evaluations) == len(set(evaluations)) == 6
    assert set(state["feedback"]) == {"h1", "h2", "h3", "h4"}


def test_directions_give_the_same_run_again(bench_of, mined):
    formulas = [WEAK[:2], [OVERREACTION, LONG], [WEAK[2]], WEAK[3:5], [LOUD], [WEAK[5]]]
    researcher = Scripted(formulas, rewrites={LONG: UNREADABLE})
    first, second = (bench_of(replace(researcher), rounds=6, directions=3) for _ in range(2))
    assert mined(first) == mined(second)
    assert sorted(told(first)) == sorted(told(second))


def test_a_direction_without_a_hypothesis_keeps_no_other_waiting(bench_of, mined):
    def fail():
        raise ResearcherError("nothing", "empty")

    researcher = Scripted([[OVERREACTION], [], [WEAK[0]]], moments={"propose 2": fail})
    bench = bench_of(researcher, rounds=3, directions=3)
    state = mined(bench)
    assert sorted(hypothesis.id for hypothesis in state["hypotheses"]) == ["h1", "h3"]
    assert (len(state["accepted"]), state["faults"]) == (1, ["nothing"])
    assert sorted(line for line in told(bench) if line.startswith("round.completed")) == [
        "round.completed 1", "round.completed 2", "round.completed 3"
    ]  # fmt: skip


def test_what_two_directions_both_draft_is_measured_once(bench_of, mined):
    spelled = OVERREACTION.replace(" ", "").replace("DECAYLINEAR", "WMA")
    bench = bench_of(Scripted([[OVERREACTION], [spelled, WEAK[0]], [OVERREACTION]]), rounds=3, directions=3, attempts=0)
    state = mined(bench)
    assert [(trial.candidate.id, failed(trial)) for trial in state["trials"] if not trial.evaluation] == [
        ("2.1.0", ["duplicate"]), ("3.1.0", ["duplicate"])
    ]  # fmt: skip
    assert bench.records.run(bench.run.id).evaluations == 2
    assert len(bench.records.candidates(bench.run.id)[0]) == 4


@pytest.mark.parametrize(("name", "most"), [("rounds", 3), ("candidates", 7), ("evaluations", 4)])
def test_no_more_is_done_than_the_user_s_allowance_leaves(bench_of, name, most, mined):
    """Two directions at once, with rewrites; the records count what has been done."""
    researcher = Scripted(
        [[LONG, *WEAK[:2]], [OVERREACTION, WEAK[2], LONG], *([[]] * 8)], rewrites={LONG: "TS_MEAN($close, 30)"}
    )
    bench, allowance = bench_of(researcher, rounds=10, directions=2), Allowance(**{name: most})
    bench = replace(
        bench,
        left=lambda field: bench.records.left(bench.run.user, allowance, field),
        begin=lambda candidate_id: bench.journal.begin_evaluation(candidate_id, allowance),
        spent=lambda: bench.records.exceeded(bench.run.user, allowance),
    )
    state = mined(bench)
    assert 0 < getattr(bench.records.run(bench.run.id), name) <= most
    assert state["stopped"] == f"user_{name}"

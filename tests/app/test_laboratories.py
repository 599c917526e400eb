"""Worker processes: what they compute is what this process would, and whatever becomes of them hurts nobody else."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from socket import socketpair

import pytest
from pydantic import ValidationError

from app.laboratories import Laboratories, WorkerError
from app.messages import ANSWER, MOST_BYTES, REQUEST, Compared, Expected, Measure, receive, send
from app.panels import laboratory, load_panel
from app.runner import Runner, mine_here
from app.settings import Settings
from factors.alphas import published
from factors.errors import EvaluationStoppedError, MeasurementError
from factors.parse import parse
from storage.markets import open_market
from storage.records import Records
from storage.runs import Budget, RunRequest
from tests.conftest import ROOT
from tests.processes import content, status, until, workers

FORMULAS = (
    "RANK($close - DELAY($close, 7))",
    "-DECAYLINEAR($return * TS_RANK($volume, 40), 5)",
    "TS_CORR($close, $volume, 20)",
    "DELTA($close, 300) * RANK($close - DELAY($close, 7))",
)
UNIVERSE = "synthetic200"
MARGIN = 20 << 20  # bytes: more than a short formula takes on the small market, less than the bomb does


def bomb(terms=48):
    """A formula of many long windows that are all needed at once."""
    parts = [f"RANK(TS_STD($close, {200 - k}))" for k in range(terms)]
    while len(parts) > 1:
        pairs = [f"({one} * {other})" for one, other in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


@pytest.fixture(scope="module")
def snapshot(market_home):
    return open_market(market_home, "small")


@pytest.fixture
def open_laboratories(market_home):
    """Make laboratories with other settings than the default; closed after the test."""
    made = []

    def make(**settings):
        made.append(Laboratories(Settings(home=market_home, **settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert workers(os.getpid()) == set()


def measure(one, formula=FORMULAS[0]):
    return one.measure(parse(formula, one.fields))


def the_worker():
    [pid] = workers(os.getpid())
    return pid


@contextmanager
def measuring(one, worker):
    """A request that the worker, which is held, does not come to answer."""
    os.killpg(worker, SIGSTOP)
    until(lambda: status(worker)["State"].startswith("T"))
    with ThreadPoolExecutor(1) as caller:
        yield caller.submit(measure, one)


def test_a_worker_finds_what_this_process_finds_to_the_bit(open_laboratories, snapshot):
    for ranked in snapshot.path.parent.glob(".panels/*/*/alphas-*.npy"):
        ranked.unlink()
    announced = {"here": [], "there": []}
    here = laboratory(snapshot, UNIVERSE, published(), announced["here"].append)
    there = open_laboratories().of(snapshot, UNIVERSE, published(), announce=announced["there"].append)
    formulas = [parse(text, here.fields) for text in FORMULAS]
    assert there.fields == here.fields
    assert (there.dates.tolist(), there.settlement) == (here.dates.tolist(), here.settlement)
    assert there.expect(formulas) == here.expect(formulas)
    for formula in formulas:
        near, far = here.measure(formula), there.measure(formula)
        assert (dict(far.splits), far.evidence) == (dict(near.splits), near.evidence)
        assert far.rank_ic.tobytes() == near.rank_ic.tobytes()
        told = [one.robustness(near.rank_ic, near.evidence, near.splits) for one in (here, there)]
        assert told[0] == told[1]
    first, *peers = formulas
    assert there.beside(first, peers) == here.beside(first, peers)
    assert there.prove(first, 3) == here.prove(first, 3)
    assert there.prove(first, 3).genuine()
    assert sorted(map(len, announced.values())) == [0, 1]  # whoever came second has read what the first had ranked


def test_a_worker_has_no_environment_and_a_group_of_its_own(open_laboratories, snapshot, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
    measure(open_laboratories().of(snapshot, UNIVERSE))
    worker = the_worker()
    names = {line.partition(b"=")[0] for line in content(worker, "environ").split(b"\0") if line}
    assert names == {b"NUMBA_CACHE_DIR", b"OPENBLAS_CORETYPE"}
    assert (os.getpgid(worker), os.getsid(worker)) == (worker, worker)
    assert content(worker, "oom_score_adj").strip() == b"1000"
    assert [str(Path(f"/proc/{worker}/fd/{name}").readlink()) for name in (0, 1)] == ["/dev/null"] * 2


def test_one_that_is_killed_while_it_works_costs_that_formula_alone(open_laboratories, snapshot):
    one = open_laboratories().of(snapshot, UNIVERSE)
    before = measure(one)
    worker = the_worker()
    with measuring(one, worker) as asked:
        os.killpg(worker, SIGKILL)
        with pytest.raises(MeasurementError, match="was ended by SIGKILL"):
            asked.result()
    assert measure(one).evidence == before.evidence
    assert the_worker() != worker


def test_one_that_was_killed_while_nobody_asked_costs_nothing(open_laboratories, snapshot):
    one = open_laboratories().of(snapshot, UNIVERSE)
    before = measure(one)
    worker = the_worker()
    os.killpg(worker, SIGKILL)
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)  # all its threads have ended
    assert measure(one).evidence == before.evidence


def test_a_formula_that_takes_too_much_memory_is_no_measurement(open_laboratories, snapshot):
    one = open_laboratories(worker_memory=MARGIN).of(snapshot, UNIVERSE)
    before = measure(one)
    worker = the_worker()
    with pytest.raises(MeasurementError, match="more than the 20 MiB of memory that it may"):
        measure(one, bomb())
    assert not status(worker)
    assert measure(one).evidence == before.evidence


def test_a_process_that_dies_of_too_little_memory_takes_nothing_along(open_laboratories, snapshot):
    one = open_laboratories(worker_memory=1 << 20).of(snapshot, UNIVERSE)
    for _ in range(2):
        assert len(one.dates)
        with pytest.raises(MeasurementError, match=r"MiB of memory|was ended by SIG|ended with status"):
            measure(one, bomb())


def test_the_same_formula_is_measured_where_there_is_memory(open_laboratories, snapshot):
    assert measure(open_laboratories().of(snapshot, UNIVERSE), bomb()).evidence.days > 0


def test_one_that_hangs_is_ended_at_the_deadline(open_laboratories, snapshot):
    one = open_laboratories(candidate_seconds=1.5).of(snapshot, UNIVERSE)
    before = measure(one)
    worker = the_worker()
    with measuring(one, worker) as asked, pytest.raises(MeasurementError, match=r"longer than the 1\.5 seconds"):
        asked.result()
    assert not status(worker)
    assert measure(one).evidence == before.evidence


class LeftError(Exception):
    """What somebody who leaves raises."""


def leave():
    raise LeftError


@pytest.mark.parametrize(("answer", "error"), [(lambda: True, EvaluationStoppedError), (leave, LeftError)])
def test_who_stops_is_let_go_inside_a_formula(open_laboratories, snapshot, answer, error):
    stopping = threading.Event()
    one = open_laboratories().of(snapshot, UNIVERSE, stop=lambda: stopping.is_set() and answer())
    measure(one)
    worker = the_worker()
    with measuring(one, worker) as asked:
        stopping.set()
        with pytest.raises(error):
            asked.result()
    assert not status(worker)


def test_closing_lets_everybody_go(open_laboratories, snapshot):
    laboratories = open_laboratories(workers=1)
    one = laboratories.of(snapshot, UNIVERSE)
    measure(one)
    worker = the_worker()
    with measuring(one, worker) as asked, ThreadPoolExecutor(1) as other:
        waiting = other.submit(measure, laboratories.of(snapshot, "all"))
        laboratories.close()
        for each in (asked, waiting):
            with pytest.raises(EvaluationStoppedError):
                each.result()
    assert workers(os.getpid()) == set()
    with pytest.raises(EvaluationStoppedError):
        measure(one)


PARENT = """
import sys
from pathlib import Path
from app.laboratories import Laboratories
from app.settings import Settings
from factors.parse import parse
from storage.markets import open_market

home, formula = Path(sys.argv[1]), sys.argv[2]
one = Laboratories(Settings(home=home)).of(open_market(home, "small"), "synthetic200")
one.measure(parse(formula, one.fields))
print("measured", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("held", [False, True])
def test_a_worker_does_not_outlive_its_parent(market_home, held):
    """Not even one that could not see its parent end, as it is held where it works."""
    command = [sys.executable, "-c", PARENT, str(market_home), FORMULAS[0]]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"measured\n"
        [worker] = workers(parent.pid)
        if held:
            os.killpg(worker, SIGSTOP)
        parent.kill()
    until(lambda: not status(worker))


def test_a_few_workers_serve_whoever_asks(open_laboratories, snapshot):
    laboratories = open_laboratories(workers=2)
    asked = [(universe, formula) for universe in (UNIVERSE, "all") for formula in FORMULAS[:3]]
    expected = [measure(laboratory(snapshot, universe), formula).evidence for universe, formula in asked]
    most, done = 0, threading.Event()

    def count():
        nonlocal most
        while not done.is_set():
            most = max(most, len(workers(os.getpid())))

    with ThreadPoolExecutor(7) as threads:
        counting = threads.submit(count)
        found = list(threads.map(lambda one: measure(laboratories.of(snapshot, one[0]), one[1]).evidence, asked))
        done.set()
        counting.result()
    assert found == expected
    assert most == 2


def test_who_asks_again_has_the_same_worker_until_it_was_idle_for_long(open_laboratories, snapshot, monkeypatch):
    laboratories = open_laboratories()
    one, same, other = (laboratories.of(snapshot, name) for name in (UNIVERSE, UNIVERSE, "all"))
    measure(one)
    worker = the_worker()
    measure(same)
    assert the_worker() == worker
    measure(other)
    assert worker in workers(os.getpid())
    monkeypatch.setattr("app.laboratories.IDLE_SECONDS", 0.0)
    measure(one)
    assert the_worker() != worker


def test_whether_workers_can_start_is_tried_where_none_was_seen_to(open_laboratories, snapshot, monkeypatch):
    laboratories = open_laboratories()
    python = sys.executable
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(WorkerError, match="it ended with status 1"):
        laboratories.check()
    monkeypatch.setattr("sys.executable", "/bin/absent")
    with pytest.raises(WorkerError, match="no worker process could be started"):
        laboratories.check()
    monkeypatch.setattr("sys.executable", python)
    laboratories.check()
    assert not workers(os.getpid())  # the one that was tried has ended
    monkeypatch.setattr("sys.executable", "/bin/false")
    laboratories.check()  # one was seen to start just now
    with pytest.raises(WorkerError):
        assert laboratories.of(snapshot, UNIVERSE).dates
    with pytest.raises(WorkerError):  # since then one was seen not to
        laboratories.check()
    monkeypatch.setattr("sys.executable", python)
    assert len(laboratories.of(snapshot, UNIVERSE).dates)
    monkeypatch.setattr("sys.executable", "/bin/false")
    laboratories.check()


def test_a_worker_that_does_not_come_up_is_not_waited_for_for_ever(open_laboratories, tmp_path, monkeypatch):
    asleep = tmp_path / "asleep"
    asleep.write_text("#!/bin/sh\nexec sleep 1000\n")
    asleep.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(asleep))
    monkeypatch.setattr("app.laboratories.STARTING_SECONDS", 0.1)
    with pytest.raises(WorkerError, match="did not start within"):
        open_laboratories().check()


def test_where_no_worker_can_start_it_is_no_formula_s_fault(open_laboratories, snapshot, monkeypatch):
    one = open_laboratories().of(snapshot, UNIVERSE)
    for command in ("/bin/false", "/bin/absent"):
        monkeypatch.setattr("sys.executable", command)
        with pytest.raises(WorkerError, match="no worker process could be started"):
            measure(one)
    monkeypatch.undo()
    assert measure(one).evidence.days > 0


@pytest.mark.parametrize("content", [b"\0\0\0\4null", b"\0\0\0\2{", b""])
def test_nothing_but_messages_is_read(content):
    one, other = socketpair()
    with one, other:
        one.sendall(content)
        one.close()
        with pytest.raises((ConnectionError, ValidationError)):
            ANSWER.validate_json(receive(other, lambda: None))


def test_nobody_waits_for_a_message_that_is_too_long():
    one, other = socketpair()
    other.settimeout(0.01)
    with one, other:
        one.sendall((MOST_BYTES + 1).to_bytes(4, "big"))
        with pytest.raises(ConnectionError, match="a message of"):
            receive(other, leave)


@pytest.mark.parametrize(
    "message", [{"kind": "measure", "formula": 1}, {"kind": "run", "formula": "x"}, {"kind": None}]
)
def test_no_other_request_is_one(message):
    with pytest.raises(ValidationError):
        REQUEST.validate_python(message)


def test_a_long_message_passes_while_the_other_side_is_slow():
    one, other = socketpair()
    one.settimeout(0.01)
    waits, message = threading.Semaphore(0), Measure(formula="x" * 2_000_000)
    with one, other, ThreadPoolExecutor(1) as threads:
        sending = threads.submit(send, one, message, waits.release)
        assert waits.acquire(timeout=60)
        assert REQUEST.validate_json(receive(other, lambda: None)) == message
        sending.result()
        for answer in (Expected(), Compared(correlations={"é\n": float("nan")}, marginal=-0.0)):
            send(one, answer, lambda: None)
            assert repr(ANSWER.validate_json(receive(other, lambda: None))) == repr(answer)


REQUEST_OF_A_RUN = RunRequest(
    direction="volume shocks", market="small", seed=2, model="offline", budget=Budget(rounds=1, candidates=4)
)


def mined(home, **settings):
    settings = Settings(home=home, **settings)
    with Records.open(settings.records_url) as records:
        runner = Runner(settings, records)
        run = mine_here(runner, REQUEST_OF_A_RUN)
        runner.laboratories.close()
        candidates, _ = records.candidates(run.id, limit=None)
        return run, candidates, records.events(run.id), records.ledger.count("small")


def test_a_run_goes_on_without_the_candidates_that_take_too_much(new_home):
    run, candidates, events, trials = mined(new_home(), worker_memory=1 << 20)
    failed = [one for one in candidates if "measurable" in [check.name for check in one.admission]]
    told = [event.data for event in events if event.type == "candidate.failed"]
    assert (run.status, run.rounds, run.evaluations) == ("succeeded", 1, trials)
    assert failed
    assert [one["candidate_id"] for one in told] == [one.candidate.id for one in failed]
    for one, words in zip(failed, told, strict=True):
        check = one.admission[-1]
        assert (check.passed, one.accepted, one.verdict.accepted) == (False, False, True)
        assert words["checks"] == [check.model_dump(mode="json")]
        assert check.hint


def test_the_service_s_process_holds_no_market(new_home, serve):
    home = new_home()
    load_panel(open_market(home, "small"), UNIVERSE)  # so that whoever reads it later has it mapped
    service = serve(home, OPENAI_API_KEY="canary")
    run = service.post(**REQUEST_OF_A_RUN.model_dump(mode="json", exclude={"limits"})).json()
    list(service.lines(run["id"]))
    assert service.get(f"/runs/{run['id']}").json()["status"] == "succeeded"
    maps = {pid: content(pid, "maps") for pid in (service.process.pid, *workers(service.process.pid))}
    assert [b".panels" in found for found in maps.values()] == [False, True]
    assert not any(b"canary" in content(pid, "environ") for pid in workers(service.process.pid))


def test_a_formula_that_takes_too_much_is_refused_over_http(new_home, serve):
    service = serve(new_home(), ALPHAAGENT_WORKER_MEMORY=str(MARGIN))
    for _ in range(2):
        answer = service.evaluate(bomb())
        assert answer.status_code == 422
        assert service.get("/ledger").json()[0]["trials"] == 0
    assert answer.headers["content-type"] == "application/problem+json"
    assert "MiB of memory" in answer.json()["detail"]

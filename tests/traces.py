"""What a home's runs leave behind, and how its hold-out is spoiled, for tests that nothing of it is ever noticed."""

import json
import re
import sqlite3
from contextlib import closing

import duckdb

from tests.chat_server import ChatServer
from tests.versions import columns, rewrite

KEY = "sk-for-nobody"
# The last of the first batch is refused and rewritten; the third and fourth are accepted on the small market.
BATCHES = [
    [
        "-TS_CORR($return, $volume, 20)",
        "RANK($open)",
        "-TS_SUM($return * TS_ZSCORE($volume, 60), 5)",
        "-TS_SUM($return * LOG($volume / TS_MEDIAN($volume, 40)), 10)",
        "RANK($clsoe)",
    ],
    ["RANK(TS_MEAN($high - $low, 12))", "-DECAYLINEAR($return * TS_RANK($volume, 40), 5)"],
]
_PASSING = {
    "hypothesis_description": 1.0,
    "hypothesis_reason": "it does",
    "description_formula": 1.0,
    "formula_reason": "it does",
}
_ANSWERS = {
    "idea": {
        "statement": "Gains on volume are spent.",
        "observation": "o",
        "knowledge": "k",
        "justification": "j",
        "specification": "s",
        "horizon_days": 1,
    },
    "judgements": {"judgements": [{"number": number, **_PASSING} for number in range(1, 9)]},
    "feedback": {"supported": True, "lesson": "go on", "action": "refine", "focus": "shorter windows"},
}
_RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?")
_OF_PROCESSES = {  # columns that tell of the process that worked on a run, and of when what it told was summed up
    "seconds", "executor", "progress", "final_rounds", "final_candidates", "event_bytes", "pruned_at",
}  # fmt: skip
_SECONDS = re.compile(r'"seconds": ?[0-9.e-]+')


def play():
    """Answers what each agent asks, the same in every run."""
    batches = iter(BATCHES)

    def answer(body):
        shape = body["response_format"]["json_schema"]["name"]
        if shape != "formulas":
            return _ANSWERS[shape]
        rewrites = "The gate refused" in body["messages"][-1]["content"]
        batch = ["RANK($low)"] if rewrites else next(batches, ["RANK($high)"])
        named = [{"name": f"n {k}", "description": "d", "formula": f, "variables": []} for k, f in enumerate(batch)]
        return {"candidates": named}

    return answer


def mined(cli, home, *arguments, model=False, **environment):
    """Mine the small market; the command line's answer and every prompt, as bytes."""
    command = ("mine", "volume shocks that overshoot", "--market", "small", "--json", "--candidates", "6", *arguments)
    if not model:
        answer = cli(home, *command, **environment)
        assert (answer.status, answer.json["status"]) == (0, "succeeded"), answer.err
        return answer, []
    server = ChatServer(play())
    try:
        answer = cli(home, *command, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=server.url, **environment)
    finally:
        server.close()
    assert (answer.status, answer.json["status"]) == (0, "succeeded"), answer.err
    return answer, [json.dumps(body).encode() for body in server.requests]


def traces(home, without=()):
    """All rows of the records by table, ``[(values, ...)]`` as text; ids of runs numbered, times and seconds apart."""
    numbers = {}

    def plain(value):
        text = value.hex() if isinstance(value, bytes) else str(value)
        text = _RANDOM_ID.sub(lambda match: f"id {numbers.setdefault(match[0], len(numbers))}", text)
        return _SECONDS.sub("seconds", _MOMENT.sub("then", text))

    found = {}
    with closing(sqlite3.connect(home / "records.sqlite")) as records:
        tables = [name for (name,) in records.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        for table in ["runs", *(name for name in tables if name not in {"runs", *without})]:
            columns = [row[1] for row in records.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(f'"{name}"' for name in columns if name not in _OF_PROCESSES)
            rows = records.execute(f"SELECT {kept} FROM {table} ORDER BY rowid").fetchall()
            found[table] = [tuple(map(plain, row)) for row in rows]
    return found


def spoil(home):
    """Put noise in the place of every value of the hold-outs of a home; their number of rows stays."""
    sealed = list(home.rglob("holdout.duckdb"))
    assert sealed
    for path in sealed:
        numbers = [name for name in columns(path.parent, "holdout") if name not in {"date", "symbol", "suspended"}]
        drawn = ", ".join(f'"{name}" = 1 + 1000 * random()' for name in numbers)
        rewrite(path.parent, "holdout", f"UPDATE bars SET {drawn}, suspended = random() > 0.5")
        with duckdb.connect(path) as con:
            con.execute("UPDATE sectors SET sector = 'sector ' || (random() * 9)::INTEGER")
            con.execute("UPDATE membership SET \"end\" = DATE '2015-04-01' + (random() * 300)::INTEGER")


def files_without_the_hold_out(home):
    """The content of every file of a home but the sealed ones."""
    paths = (path for path in home.rglob("*") if path.is_file() and path.stem != "holdout" != path.parent.name)
    return {path: path.read_bytes() for path in paths}

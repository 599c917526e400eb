"use strict";
// Follows one run. What people and models wrote only ever becomes text.

const element = (id) => document.getElementById(id);
const rounds = new Map();
const candidates = new Map();

function round(number) {
  if (!rounds.has(number)) {
    const section = element("round").content.cloneNode(true).firstElementChild;
    section.querySelector("h2").textContent = `Round ${number}`;
    element("log").append(section);
    rounds.set(number, section);
  }
  return rounds.get(number);
}

function say(row, outcome, kind, why) {
  const mark = document.createElement("span");
  mark.className = kind;
  mark.textContent = outcome;
  row.querySelector(".outcome").replaceChildren(mark);
  row.querySelector(".why").textContent = why;
}

function count(id) {
  element(id).textContent = Number(element(id).textContent) + 1;
}

const hints = (checks) => checks.filter((check) => !check.passed).map((check) => `${check.name}: ${check.hint}`).join("; ");
const figure = (value, digits) => (value === null ? "\u2013" : Number(value).toFixed(digits));

function end(status) {
  return (data) => {
    element("status").textContent = element("status").className = status;
    element("stage").textContent = data.reason ? `ended by ${(data.limit || data.reason).replaceAll("_", " ")}` : "";
    element("error").textContent = data.error || "";
    events.close();
  };
}

const run = () => {
  element("status").textContent = element("status").className = "running";
};

const tell = {
  "run.started": run,
  "run.resumed": run,
  "hypothesis.proposed": (data) => {
    round(data.round).querySelector(".statement").textContent = data.hypothesis.statement;
  },
  "candidate.drafted": (data) => {
    const row = element("candidate").content.cloneNode(true).firstElementChild;
    row.querySelector(".name").textContent = data.candidate.name;
    row.querySelector(".formula").textContent = data.candidate.formula;
    round(data.round).querySelector("tbody").append(row);
    candidates.set(data.candidate.id, row);
    say(row, "drafted", "lead", "");
  },
  "candidate.judged": (data) => {
    count("judged");
    say(candidates.get(data.candidate_id), data.accepted ? "passed" : "refused", data.accepted ? "lead" : "bad", hints(data.verdict.checks));
  },
  "candidate.evaluated": (data) => {
    count("evaluated");
    const row = candidates.get(data.evaluation.candidate_id);
    row.querySelector(".ic").textContent = figure(data.evaluation.splits.valid.rank_ic, 4);
    row.querySelector(".icir").textContent = figure(data.evaluation.splits.valid.rank_icir, 3);
    const failed = hints(data.checks);
    say(row, failed ? "refused" : "measured", failed ? "bad" : "lead", failed);
  },
  "candidate.failed": (data) => say(candidates.get(data.candidate_id), "refused", "bad", hints(data.checks)),
  "factor.accepted": (data) => {
    count("accepted");
    const row = candidates.get(data.factor.lineage.candidate);
    say(row, "accepted", "live", "");
    const link = document.createElement("a");
    link.href = `/library/${encodeURIComponent(data.factor.id)}`;
    link.textContent = data.new ? "in the library" : "in the library before";
    row.querySelector(".why").append(link);
  },
  "model.called": () => count("calls"),
  "agent.failed": (data) => {
    round(data.round).querySelector(".lesson").textContent = `${data.agent} failed: ${data.message}`;
  },
  "round.completed": (data) => {
    count("rounds");
    element("bar").value = Number(element("rounds").textContent);
    if (data.feedback) round(data.round).querySelector(".lesson").textContent = data.feedback.lesson;
    for (const row of round(data.round).querySelectorAll(".candidates tbody tr")) {
      if (row.querySelector(".outcome").textContent === "measured") say(row, "not admitted", "bad", "");
    }
  },
  "run.progress": (data) => {
    element("stage").textContent = `round ${data.round} of ${data.rounds}, ${data.stage} ${data.done} of ${data.total}`;
  },
  "run.succeeded": end("succeeded"),
  "run.failed": end("failed"),
  "run.cancelled": end("cancelled"),
};

const events = new EventSource(`/runs/${element("run").dataset.id}/events`);
events.addEventListener("open", () => {  // from here on the events are counted instead
  for (const id of ["rounds", "judged", "evaluated", "accepted", "calls"]) element(id).textContent = 0;
}, { once: true });
events.addEventListener("error", () => {
  if (events.readyState === EventSource.CLOSED && !rounds.size) element("stage").textContent = "its events are not kept any more, or not to be had now";
});
for (const [type, handle] of Object.entries(tell)) {
  events.addEventListener(type, (event) => handle(JSON.parse(event.data).data));
}

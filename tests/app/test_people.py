"""Who may do what over HTTP: a table of all routes and roles, and the ways around it, at real servers."""

import json
import re
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from signal import SIGINT

import httpx
import pytest

from app.auth import COOKIE, Least, anyone, csrf_token
from app.pages.login import Attempts
from app.service import create_service
from app.settings import Settings
from factors.hypothesis import factor_id
from factors.parse import parse
from storage.feed import Position
from storage.markets import open_market
from storage.principal import Principal
from storage.records import Records
from storage.runs import Quota, RunRequest, SpentError
from storage.webhooks import WebhookRequest
from tests.library import accepted, factor_of

ROOT = Principal("root", "admin")
SECRET = "zanzibar"
FORMULAS = ["RANK($close)", "RANK($open)", "RANK($high)", "RANK($low)", "RANK($volume)"]
RUN = {"direction": "gaps", "market": "small", "seed": 1, "budget": {"rounds": 1, "candidates": 1}}
WHO = ("none", "viewer", "researcher", "other", "admin")
ANYBODY, VIEWER = (200,) * 5, (401, 200, 200, 200, 200)
RESEARCHER, ADMIN = (401, 403, 200, 200, 200), (401, 403, 403, 403, 200)
PAGE, BUTTON = (303, 200, 200, 200, 200), (303, 403, 403, 403, 303)

ACCESS = {
    "GET /": PAGE,
    "GET /audit": ADMIN,
    "GET /docs": ANYBODY,
    "GET /docs/oauth2-redirect": ANYBODY,
    "GET /events": (401, 422, 422, 422, 422),  # asked from behind an event that is none, as it has no end
    "GET /factors": VIEWER,
    "GET /factors/{factor_id}": VIEWER,
    "GET /factors/{factor_id}/appraisal": VIEWER,
    "GET /factors/{factor_id}/neighbours": VIEWER,
    "GET /factors/{factor_id}/promotion": VIEWER,
    "POST /factors/{factor_id}/promote": ADMIN,
    "POST /factors/{factor_id}/retire": ADMIN,
    "GET /healthz": ANYBODY,
    "GET /ledger": VIEWER,
    "GET /library/{factor_id}": PAGE,
    "POST /library/{factor_id}/promote": BUTTON,
    "POST /library/{factor_id}/retire": BUTTON,
    "GET /login": ANYBODY,
    "POST /login": (401,) * 5,  # without a key
    "POST /logout": (303,) * 5,
    "GET /markets/{market}": PAGE,
    "POST /markets/{market}/imports": (401, 403, 403, 403, 404),  # of a data set that is not there
    "GET /markets/{market}/imports/{import_id}": (401, 403, 403, 403, 404),
    "POST /markets/{market}/prune": (303, 403, 403, 403, 422),  # names no version
    "GET /markets/{market}/quality": VIEWER,
    "GET /markets/{market}/versions": VIEWER,
    "DELETE /markets/{market}/versions/{version_id}": (401, 403, 403, 403, 409),  # the current one
    "GET /mining": PAGE,
    "GET /mining/{run_id}": PAGE,
    "GET /openapi.json": ANYBODY,
    "GET /metrics": VIEWER,
    "GET /operators": VIEWER,
    "POST /evaluations": RESEARCHER,
    "GET /readyz": ANYBODY,
    "GET /redoc": ANYBODY,
    "GET /runs": VIEWER,
    "POST /runs": (401, 403, 202, 202, 202),
    "GET /runs/{run_id}": VIEWER,
    "POST /runs/{run_id}/cancel": (401, 403, 409, 403, 409),  # it has ended
    "GET /runs/{run_id}/events": VIEWER,
    "GET /runs/{run_id}/candidates": VIEWER,
    "GET /runs/{run_id}/overfitting": VIEWER,
    "GET /static-offline-docs": (307,) * 5,  # its files are anybody's
    "GET /tokens": ADMIN,
    "POST /tokens": (401, 403, 403, 403, 201),
    "DELETE /tokens/{token_id}": (401, 403, 403, 403, 204),
    "GET /users/{user}/quota": ADMIN,
    "PUT /users/{user}/quota": ADMIN,
    "GET /webhooks": RESEARCHER,
    "POST /webhooks": (401, 403, 422, 422, 422),  # to an address that is refused
    "DELETE /webhooks/{webhook_id}": (401, 403, 204, 404, 404),
    "GET /webhooks/{webhook_id}/deliveries": (401, 403, 200, 404, 200),
}
OF_FASTAPI = {"GET /docs", "GET /docs/oauth2-redirect", "GET /openapi.json", "GET /redoc", "GET /static-offline-docs"}
PRIVATE, PRIVATE_ACT = (401, 404, 200, 404, 200), (401, 403, 409, 404, 409)
BODIES = {
    "POST /runs": RUN,
    "POST /evaluations": {"formula": "RANK($close)", "market": "small"},
    "POST /markets/{market}/imports": {"dataset": "nothing"},
    "POST /tokens": {"user": "eve", "role": "viewer"},
    "PUT /users/{user}/quota": {"streams": 9},
    "POST /webhooks": {"url": "https://127.0.0.1/"},
}
FACTOR = {  # an act on a factor changes what the next finds
    "POST /factors/{factor_id}/promote": 1,
    "POST /factors/{factor_id}/retire": 2,
    "POST /library/{factor_id}/promote": 3,
    "POST /library/{factor_id}/retire": 4,
}


TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nothing is sent over it, and making one for each request takes long


ADDRESSES = map("198.51.100.{}".format, count(1))


def from_elsewhere(**headers):
    """Headers of a login from an address that has tried none yet: a proxy on this machine may tell it."""
    return {"X-Forwarded-For": next(ADDRESSES), **headers}


def send(method, url, **options):
    return httpx.request(method, url, timeout=60, verify=TLS, **options)


def flat(routes):
    for route in routes:
        if hasattr(route, "original_router"):
            yield from flat(route.original_router.routes)
        else:
            yield route


def routes_of(service):
    """Every route by method and path, as the server has it."""
    found = {}
    for route in flat(service.routes):
        for method in sorted((getattr(route, "methods", None) or {"GET"}) - {"HEAD"}):
            found[f"{method} {route.path}"] = route
    return found


def calls(dependant):
    yield dependant.call
    for part in dependant.dependencies:
        yield from calls(part)


@dataclass
class Team:
    """A server and its people."""

    url: str
    home: object
    keys: dict
    tokens: dict
    shown: str
    hidden: str
    factors: list

    def ask(self, who, method, path, **options):
        key = self.keys[who]
        headers = ({"Authorization": f"Bearer {key}"} if key else {}) | options.pop("headers", {})
        if path == "/events":
            headers = {"Last-Event-ID": "none"} | headers
        return send(method, self.url + path, headers=headers, **options)

    @cached_property
    def document(self):
        return self.ask("admin", "GET", "/openapi.json").json()

    def records(self):
        return Records.open(Settings(home=self.home).records_url)


def finished(records, snapshot, by, *, private=False, formula=None):
    """A run that has ended, with what it is about in all its words, and a factor that it accepted."""
    direction = f"{SECRET} direction" if private else "of the team"
    request = RunRequest(direction=direction, market="small", private=private)
    model = f"{SECRET}-model" if private else "offline"
    run = records.create_run(request, universe="synthetic200", snapshot=snapshot.id, seed=1, model=model, by=by)
    journal = records.journal(run.id, "host")
    journal.start()
    if formula:
        words = {"name": f"{SECRET} name", "description": f"{SECRET} text", "hypothesis": f"{SECRET} idea"}
        assert journal.accept_factor(factor_of(run, snapshot, formula).model_copy(update=words))
    journal.finish("succeeded", stopped="rounds")
    return run.id


@pytest.fixture(scope="module")
def team(new_home, serve):
    home = new_home()
    settings = Settings(home=home)
    roles = {"viewer": "viewer", "researcher": "researcher", "other": "researcher", "admin": "admin"}
    with Records.open(settings.records_url) as records:
        made = {who: records.people.create_token(ROOT, who, role) for who, role in roles.items()}
        snapshot, owner = open_market(home, "small"), Principal("researcher", "researcher")
        factors = [accepted(records, snapshot, formula) for formula in FORMULAS]
        for factor in factors:
            records.journal(factor.run_id, "host").finish("succeeded")
        shown = finished(records, snapshot, owner)
        hidden = finished(records, snapshot, owner, private=True, formula="RANK($close - $open)")
    keys = {"none": None} | {who: token.key for who, token in made.items()}
    return Team(serve(home).url, home, keys, made, shown, hidden, [one.id for one in factors])


# the table


def test_every_route_declares_its_least_role(home):  # noqa: ARG001 - the settings name it
    for name, route in routes_of(create_service(Settings())).items():
        if name not in OF_FASTAPI:
            declared = [call for call in calls(route.dependant) if call is anyone or isinstance(call, Least)]
            assert declared, f"{name} declares no role"


def test_the_table_is_complete(home):  # noqa: ARG001 - the settings name it
    assert set(ACCESS) == set(routes_of(create_service(Settings())))


@pytest.mark.parametrize("route", ACCESS)
def test_each_role_may_do_what_the_table_says(team, route):
    method, path = route.split(" ")
    spare = None
    if "{token_id}" in path:
        spare = team.ask("admin", "POST", "/tokens", json={"user": "spare", "role": "viewer"}).json()["id"]
    place = {"run_id": team.shown, "factor_id": team.factors[FACTOR.get(route, 0)], "user": "eve", "token_id": spare}
    place |= {"market": "small", "import_id": "none", "version_id": open_market(team.home, "small").id}
    if "{webhook_id}" in path:
        with team.records() as records:
            asked = WebhookRequest(url="https://hooks.example/")
            place["webhook_id"] = records.webhooks.create(asked, Principal("researcher", "researcher")).id
    body = {"json": BODIES[route]} if route in BODIES else {}
    answers = [team.ask(who, method, path.format(**place), **body) for who in WHO]
    assert [answer.status_code for answer in answers] == list(ACCESS[route]), [answer.text[:200] for answer in answers]
    documented = team.document["paths"].get(path, {}).get(method.lower())  # pages are not in it
    assert documented is None or {str(answer.status_code) for answer in answers} <= set(documented["responses"])
    for answer in answers:
        assert answer.status_code != 401 or route == "POST /login" or answer.headers["www-authenticate"] == "Bearer"
        assert answer.status_code != 303 or answer.headers["location"] in {
            "/login",
            path.format(**place).rpartition("/")[0],
        }


def test_a_factor_s_page_names_the_model_of_a_private_run_to_who_may_see_it(team):
    path = f"/library/{factor_id('small', parse('RANK($close - $open)'))}"
    told = {who: team.ask(who, "GET", path).text.count(f"{SECRET}-model") for who in WHO[1:]}
    assert told == {"viewer": 0, "researcher": 2, "other": 0, "admin": 2}


@pytest.mark.parametrize("route", [route for route in ACCESS if "{run_id}" in route])
def test_a_private_run_is_not_there_for_others(team, route):
    method, path = route.split(" ")
    answers = [team.ask(who, method, path.format(run_id=team.hidden)) for who in WHO]
    expected = PRIVATE if method == "GET" else PRIVATE_ACT
    assert [answer.status_code for answer in answers] == list(
        (303, *PRIVATE[1:]) if ACCESS[route] == PAGE else expected
    )
    missing = team.ask("other", method, path.format(run_id="nope"))
    of_one_answer = r'nonce(-|=")[\w-]+|"request_id":"[\w-]+"'
    told, untold = (re.sub(of_one_answer, "", answer.text) for answer in (answers[3], missing))
    assert told == untold.replace("nope", team.hidden)


def test_the_stream_of_all_runs_is_of_one_s_own(team):
    request = RunRequest(direction="of one's own", market="small")
    recipe = {"universe": "synthetic200", "snapshot": "none", "seed": 1, "model": "offline"}
    headers, told = {"Authorization": f"Bearer {team.keys['other']}"}, ""
    with team.records() as records, httpx.stream("GET", f"{team.url}/events", headers=headers, verify=TLS) as stream:
        hers, own = (
            records.create_run(request, **recipe, by=Principal(who, "researcher")).id for who in ("researcher", "other")
        )
        for line in stream.iter_lines():
            told += line
            if f'"run_id":"{own}"' in line:
                break
    assert hers not in told


def test_a_place_in_the_log_of_somebody_else_s_run_is_none(team):
    """Or it would tell how long the log of a private run is."""
    for seq in (0, 1, 10**6):
        position = Position(team.hidden, {team.hidden: seq})
        answer = team.ask("other", "GET", "/events", headers={"Last-Event-ID": str(position)})
        assert answer.status_code == 422


def test_a_stream_ends_soon_after_its_key_was_revoked(team):
    made = team.ask("admin", "POST", "/tokens", json={"user": "leaver", "role": "viewer"}).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    with httpx.stream("GET", f"{team.url}/events", headers=headers, verify=TLS, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 1000"
        assert team.ask("admin", "DELETE", f"/tokens/{made['id']}").status_code == 204
        assert [line for line in lines if line.startswith("data")] == []


def test_a_stream_ends_soon_after_its_session_was_left(team):
    with httpx.Client(base_url=team.url, verify=TLS, timeout=60) as browser:
        browser.post("/login", data={"key": team.keys["viewer"]}, headers=from_elsewhere())
        with browser.stream("GET", "/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 1000"
            browser.post("/logout", data={"csrf": csrf_token(browser.cookies[COOKIE])})
            assert [line for line in lines if line.startswith("data")] == []
    assert team.ask("viewer", "GET", "/runs").status_code == 200


def test_no_answer_to_others_tells_a_word_of_a_private_run(team):
    with team.records() as records:
        own = factor_id("small", parse("RANK($close - $open)"))
        for factor in records.library("small"):
            assert SECRET not in factor.model_dump_json()
        assert records.factor(own).run_id == team.hidden
        assert any(SECRET in event.model_dump_json() for event in records.events(team.hidden))
    place = {"run_id": team.hidden, "factor_id": own, "user": "researcher", "market": "small", "import_id": ""}
    runs = {run["id"] for run in team.ask("other", "GET", "/runs").json()["items"]}
    assert team.shown in runs
    assert team.hidden not in runs
    assert team.ask("other", "GET", f"/runs?cursor={team.hidden}").status_code == 404
    for route in ACCESS:
        if route.startswith("GET"):
            told = team.ask("other", "GET", route.split(" ")[1].format(**place, token_id="", webhook_id=""))
            shown = told.text.replace(
                f"{SECRET} direction", "", told.text.count(team.shown)
            )  # of the run that is no secret
            assert SECRET not in shown, route
    assert SECRET in team.ask("researcher", "GET", f"/runs/{team.hidden}/events").text


def test_somebody_s_private_run_can_be_posted_and_followed(team):
    answer = team.ask("researcher", "POST", "/runs", json={**RUN, "private": True})
    run = answer.json()
    assert run["private"]
    assert "run.succeeded" in team.ask("researcher", "GET", f"/runs/{run['id']}/events").text
    assert team.ask("other", "GET", f"/runs/{run['id']}").status_code == 404


def test_a_run_is_cancelled_by_its_owner_or_an_admin(team):
    with team.records() as records:
        records.people.set_quota(ROOT, "researcher", Quota(concurrent_runs=0))
    for who, private in (("researcher", False), ("admin", False), ("researcher", True), ("admin", True)):
        run = team.ask("researcher", "POST", "/runs", json={**RUN, "private": private}).json()
        asked = [team.ask(one, "POST", f"/runs/{run['id']}/cancel") for one in ("viewer", "other", who)]
        assert [answer.status_code for answer in asked] == [403, 404 if private else 403, 202]
        assert asked[-1].json()["status"] == "cancelled"
        [entry, *_] = team.ask("admin", "GET", "/audit?limit=1").json()["items"]
        assert (entry["user"], entry["act"], entry["subject"]) == (who, "run.cancelled", run["id"])
    with team.records() as records:
        records.people.set_quota(ROOT, "researcher", Quota())


# what is shown


@pytest.mark.parametrize(
    "shown",
    ["", "Bearer", "Bearer x", "Basic {key}", "bearer {key}x", "Bearer {key} {key}", "{key}", "Bearer \xff"],
)
def test_what_is_no_key_is_401(team, shown):
    header = shown.format(key=team.keys["admin"]).encode("latin-1")
    answer = send("GET", f"{team.url}/runs", headers={"Authorization": header})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_key_of_another_database_or_that_has_ended_is_401(team, tmp_path):
    with Records.open(f"sqlite:///{tmp_path}/records.sqlite") as elsewhere:
        foreign = elsewhere.people.create_token(ROOT, "admin", "admin")
    made = team.ask("admin", "POST", "/tokens", json={"user": "eve", "role": "admin", "days": 1}).json()

    def status(key):
        return send("GET", f"{team.url}/runs", headers={"Authorization": f"Bearer {key}"}).status_code

    assert (status(foreign.key), status(made["key"])) == (401, 200)
    assert team.ask("admin", "DELETE", f"/tokens/{made['id']}").status_code == 204
    assert status(made["key"]) == 401
    [listed] = [one for one in team.ask("admin", "GET", "/tokens").json() if one["id"] == made["id"]]
    assert listed["revoked_at"]
    assert "key" not in listed


def test_the_audit_log_tells_of_http(team):
    run = team.ask("other", "POST", "/runs", json=RUN).json()
    made = team.ask("admin", "POST", "/tokens", json={"user": "eve", "role": "viewer"}).json()
    page = team.ask("admin", "GET", "/audit?limit=2").json()
    told = [(one["user"], one["token"], one["act"], one["subject"], one["client"]) for one in page["items"]]
    assert told == [
        ("admin", team.tokens["admin"].id, "token.created", made["id"], "127.0.0.1"),
        ("other", team.tokens["other"].id, "run.submitted", run["id"], "127.0.0.1"),
    ]
    assert team.ask("admin", "GET", f"/audit?cursor={page['next_cursor']}").status_code == 200


# pages


@pytest.fixture
def browser(team):
    """A browser in which the admin has logged in."""
    with httpx.Client(base_url=team.url, verify=TLS, timeout=60) as opened:
        answer = opened.post(
            "/login", data={"key": f" {team.keys['admin']}\n"}, headers=from_elsewhere(Origin=team.url)
        )
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        yield opened


def test_a_session_s_cookie_is_for_this_site_and_no_script(team):
    sent = {"key": team.keys["viewer"]}
    cookie = send("POST", f"{team.url}/login", data=sent, headers=from_elsewhere()).headers["set-cookie"]
    name, *attributes = cookie.split("; ")
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}", name)
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"} == set(attributes)
    over_tls = from_elsewhere(**{"X-Forwarded-Proto": "https"})
    secured = send("POST", f"{team.url}/login", data=sent, headers=over_tls).headers["set-cookie"]
    assert "; Secure" in secured
    assert team.keys["viewer"] not in cookie


def test_a_page_shows_who_is_logged_in_and_the_stream_takes_the_cookie(browser, team):
    page = browser.get("/").text
    assert "admin, admin" in page
    assert csrf_token(browser.cookies[COOKIE]) in page
    assert browser.get(f"/runs/{team.shown}/events").text.count("event: ") > 1
    assert send("GET", f"{team.url}/runs/{team.shown}/events").status_code == 401


def test_a_cookie_alone_changes_nothing(browser, team):
    with httpx.Client(base_url=team.url, verify=TLS, timeout=60) as other:
        other.post("/login", data={"key": team.keys["viewer"]}, headers=from_elsewhere())
        foreign = csrf_token(other.cookies[COOKIE])
    path, right = "/users/eve/quota", csrf_token(browser.cookies[COOKIE])
    body = {"json": {"streams": 3}}
    for headers in (
        {},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": foreign},
        {"X-CSRF-Token": browser.cookies[COOKIE]},
        {"X-CSRF-Token": b"\xff"},
        {"X-CSRF-Token": right, "Sec-Fetch-Site": "cross-site"},
        {"X-CSRF-Token": right, "Sec-Fetch-Site": "same-site"},
        {"X-CSRF-Token": right, "Origin": "https://evil.example"},
        {"X-CSRF-Token": right, "Origin": "null"},
    ):
        assert browser.put(path, headers=headers, **body).status_code == 403, headers
    own = {"X-CSRF-Token": right, "Origin": team.url, "Sec-Fetch-Site": "same-origin"}
    assert browser.put(path, headers=own, **body).status_code == 200
    # A key that a program shows is not sent by a browser of itself.
    assert team.ask("admin", "PUT", path, headers={"Sec-Fetch-Site": "cross-site"}, **body).status_code == 200


def test_buttons_of_a_page_carry_the_session_s_token(browser, team, new_home):  # noqa: ARG001
    with team.records() as records:
        snapshot = open_market(team.home, "small")
        found = accepted(records, snapshot, "RANK($low - $open)")
        records.journal(found.run_id, "host").finish("succeeded")
        factor = found.id
    page = browser.get(f"/library/{factor}").text
    action, field = re.search(
        r'action="(/library/\w+/retire)"><input type="hidden" name="csrf" value="(\w+)">', page
    ).groups()
    assert browser.post(action).status_code == 403
    assert browser.post(action, data={"csrf": field[:-1]}).status_code == 403
    assert browser.post(action, data={"csrf": field}).headers["location"] == f"/library/{factor}"
    assert "Retired by admin" in browser.get(f"/library/{factor}").text
    assert browser.get(f"/factors/{factor}").json()["status"] == "retired"
    assert team.ask("admin", "POST", f"/factors/{factor}/promote").status_code == 409
    assert "/retire" not in team.ask("viewer", "GET", f"/library/{team.factors[0]}").text
    again = team.ask("admin", "POST", f"/factors/{factor}/retire").json()
    assert again["user"] == "admin"


def test_logging_out_ends_the_session(browser):
    session = browser.cookies[COOKIE]
    assert browser.post("/logout").status_code == 403
    answer = browser.post("/logout", data={"csrf": csrf_token(session)})
    assert answer.headers["location"] == "/login"
    assert COOKIE not in browser.cookies
    stolen = {"Cookie": f"{COOKIE}={session}"}
    assert browser.get("/runs", headers=stolen).status_code == 401
    assert browser.get("/", headers=stolen).headers["location"] == "/login"


def test_a_session_ends_with_its_token(team):
    made = team.ask("admin", "POST", "/tokens", json={"user": "eve", "role": "viewer"}).json()
    with httpx.Client(base_url=team.url, verify=TLS, timeout=60) as browser:
        browser.post("/login", data={"key": made["key"]}, headers=from_elsewhere())
        assert browser.get("/runs").status_code == 200
        team.ask("admin", "DELETE", f"/tokens/{made['id']}")
        assert browser.get("/runs").status_code == 401


def test_nobody_is_logged_in_by_another_site(team):
    sent = {"data": {"key": team.keys["viewer"]}}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = send("POST", f"{team.url}/login", headers=from_elsewhere(**headers), **sent)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_login_attempts_of_a_client_are_limited(team):
    def attempt(client, key="nonsense"):
        return send("POST", f"{team.url}/login", data={"key": key}, headers={"X-Forwarded-For": client})

    assert [attempt("203.0.113.5").status_code for _ in range(11)] == [401] * 10 + [429]
    assert attempt("203.0.113.5", team.keys["viewer"]).status_code == 429
    assert 1 <= int(attempt("203.0.113.5").headers["retry-after"]) <= 61
    assert attempt("203.0.113.6", team.keys["viewer"]).status_code == 303


def test_a_client_of_version_6_is_its_network():
    attempts = Attempts()
    for number in range(10):
        attempts.count(f"2001:db8::{number}")
    with pytest.raises(SpentError):
        attempts.count("2001:db8::ffff")
    attempts.count("2001:db8:0:1::1")


# without tokens


def test_without_tokens_this_machine_alone_may_do_everything(new_home, serve, cli):
    home = new_home()
    service = serve(home)
    assert service.process.stdout.readline().startswith("There is no token yet")
    assert service.get("/audit").status_code == 200
    assert "nothing to log in to" in service.get("/login").text
    address = service.url.removeprefix("http://")

    def status(method="GET", path="/runs", **headers):
        return send(method, service.url + path, headers=headers).status_code

    assert status(Host=address) == status(Host=address.replace("127.0.0.1", "localhost")) == 200
    assert status(Host="[::1]:80") == 200
    for host in (
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "x@localhost.x",
    ):
        assert status(Host=host) == 403, host
    assert status(**{"X-Forwarded-For": "203.0.113.5"}) == 403
    assert status("POST", "/factors/x/retire") == 404
    assert status("POST", "/factors/x/retire", Origin="https://evil.example") == 403
    assert status("POST", "/factors/x/retire", **{"Sec-Fetch-Site": "cross-site"}) == 403
    made = cli(home, "token", "create", "ada", "--role", "admin", "--days", "7")
    assert (made.status, len(made.out.split())) == (0, 1)
    assert made.out.strip() not in made.err
    shown = {"Authorization": f"Bearer {made.out.strip()}"}
    assert (status(), status(**shown)) == (401, 200)
    assert status(Host="team.example", **shown) == 200
    [listed] = cli(home, "token", "list", "--json").json
    assert (listed["user"], listed["role"], made.out.strip() in str(listed)) == ("ada", "admin", False)
    assert cli(home, "token", "revoke", listed["id"]).status == 0
    assert (status(), status(**shown)) == (401, 401)
    assert "ada" in cli(home, "token", "list").out


def test_without_tokens_nothing_but_loopback_is_listened_on(new_home, cli, start):
    home = new_home()
    refused = cli(home, "serve", "--host", "0.0.0.0", "--port", "0")
    assert (refused.status, refused.out) == (2, "")
    assert "alphaagent token create" in refused.err
    key = cli(home, "token", "create", "ada", "--role", "viewer").out.strip()
    process = start(home, "serve", "--host", "0.0.0.0", "--port", "0")
    url = process.stdout.readline().split()[2]
    assert send("GET", f"{url}/runs").status_code == 401
    assert send("GET", f"{url}/runs", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    process.send_signal(SIGINT)
    assert process.communicate(timeout=10)[0] == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "two words", "--role", "admin"], "user"),
        (["create", "ada", "--role", "owner"], "owner"),
        (["create", "ada", "--role", "admin", "--days", "0"], "days"),
        (["revoke", "nope"], "no token 'nope'"),
    ],
)
def test_a_token_that_cannot_be_is_one_line(tmp_path, cli, arguments, words):
    answer = cli(tmp_path, "token", *arguments)
    assert (answer.status, answer.out) == (2, "")
    assert words in answer.err
    assert answer.err.count("\n") == 1


# requests sent again, large ones, and too many


def test_a_request_sent_again_is_the_same_run(team):
    again = {"headers": {"Idempotency-Key": "one"}}
    with ThreadPoolExecutor(4) as threads:
        posts = list(threads.map(lambda _: team.ask("other", "POST", "/runs", json=RUN, **again), range(4)))
    assert {answer.status_code for answer in posts} == {202}
    [run] = {answer.json()["id"] for answer in posts}
    assert {answer.headers["location"] for answer in posts} == {f"/runs/{run}"}
    team.ask("other", "GET", f"/runs/{run}/events")
    reordered = json.dumps(dict(reversed(RUN.items())), indent=2)
    later = team.ask(
        "other", "POST", "/runs", content=reordered, headers={"Content-Type": "application/json", **again["headers"]}
    )
    assert (later.status_code, later.json()["id"], later.json()["status"]) == (202, run, "succeeded")
    assert team.ask("other", "POST", "/runs", json={**RUN, "seed": 2}, **again).status_code == 422
    assert team.ask("researcher", "POST", "/runs", json=RUN, **again).json()["id"] != run
    for key in ("", "x" * 201, "two words", b"\xff"):
        assert team.ask("other", "POST", "/runs", json=RUN, headers={"Idempotency-Key": key}).status_code == 422, key
    assert team.ask("other", "POST", "/evaluations", json=BODIES["POST /evaluations"], **again).status_code == 422


def test_a_body_has_at_most_a_mebibyte(team):
    large = b'{"direction": "' + b"x" * 2**20 + b'"}'
    kind = {"Content-Type": "application/json"}
    for who, path in (("researcher", "/runs"), ("none", "/runs"), ("admin", "/tokens")):
        for content in (large, iter([large[: 2**19], large[2**19 :]])):
            assert team.ask(who, "POST", path, content=content, headers=kind).status_code == 413, (who, path)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (b"key=" + b"x" * 2**20, iter([b"key=", b"x" * 2**20])):
        assert team.ask("none", "POST", "/login", content=content, headers=from_elsewhere(**form)).status_code == 413
    fits = b'{"direction": "' + b"x" * (2**20 - 17) + b'"}'
    assert len(fits) == 2**20
    assert team.ask("researcher", "POST", "/runs", content=fits, headers=kind).status_code == 422


def test_a_quota_is_429_with_the_time_to_wait(team):
    quota = "/users/eve/quota"
    key = team.ask("admin", "POST", "/tokens", json={"user": "eve", "role": "researcher"}).json()["key"]
    shown = {"Authorization": f"Bearer {key}"}

    def post(path, body):
        return send("POST", team.url + path, json=body, headers=shown)

    changed = team.ask("admin", "PUT", quota, json={"queued_runs": 0, "evaluations": 1}).json()
    assert (changed["queued_runs"], changed["evaluations"]) == (0, 1)
    assert team.ask("admin", "GET", quota).json() == changed
    refused = post("/runs", RUN)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    measured = post("/evaluations", BODIES["POST /evaluations"])
    spent = post("/evaluations", BODIES["POST /evaluations"])
    assert (measured.status_code, spent.status_code) == (200, 429)
    assert 86_000 < int(spent.headers["retry-after"]) <= 86_400
    assert team.ask("admin", "PUT", quota, json={"streams": -1}).status_code == 422
    assert team.ask("admin", "PUT", "/users/no one/quota", json={}).status_code == 422


def test_streams_of_a_user_are_counted_while_they_are_open(team):
    with team.records() as records:
        recipe = {"universe": "all", "snapshot": "s", "seed": 1, "model": "offline"}
        records.people.set_quota(ROOT, "idle", Quota(concurrent_runs=0))
        idle = Principal("idle", "researcher")
        run = records.create_run(RunRequest(direction="waits", market="small"), by=idle, **recipe).id
    made = team.ask("admin", "POST", "/tokens", json={"user": "kim", "role": "viewer"}).json()
    team.ask("admin", "PUT", "/users/kim/quota", json={"streams": 1})
    address, shown = f"{team.url}/runs/{run}/events", {"Authorization": f"Bearer {made['key']}"}
    with httpx.stream("GET", address, headers=shown, verify=TLS) as stream:
        lines = stream.iter_lines()  # kept: without it the stream would be closed
        assert next(lines) == "retry: 1000"
        refused = send("GET", address, headers=shown)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        assert team.ask("other", "GET", f"/runs/{team.shown}/events").status_code == 200
    freed = threading.Event()
    for _ in range(100):
        with httpx.stream("GET", address, headers=shown, verify=TLS) as stream:
            if stream.status_code == 200:
                return
        freed.wait(0.1)
    pytest.fail("a stream that was closed still counts")


def test_the_document_names_the_ways_to_show_who_one_is(team):
    document = team.ask("none", "GET", "/openapi.json").json()
    assert {one["type"] for one in document["components"]["securitySchemes"].values()} == {"http", "apiKey"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert bool(operation.get("security")) is (path not in {"/healthz", "/readyz"}), path

"""The image and the compose file are what they claim: everything is copied, nothing runs as root or may write."""

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
INSTRUCTIONS = [line.split(" ", 1) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
ROOMS = {"app", "graphs", "prompts", "storage", "factors"}


def told(instruction):
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def last_stage():
    begins = [number for number, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM"]
    return INSTRUCTIONS[begins[-1] :]


def test_all_rooms_and_only_what_there_is_are_copied():
    copied = [rest.split()[:-1] for rest in told("COPY") if not rest.startswith("--from")]
    sources = {source for group in copied for source in group}
    assert sources >= ROOMS
    assert all((ROOT / source).exists() for source in sources)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == sources


def test_packages_are_those_of_the_lock_and_the_python_is_the_one_they_were_locked_for():
    installs = [rest for rest in told("RUN") if "pip install" in rest]
    assert "--require-hashes --requirement requirements.lock" in installs[0]
    assert all("--require-hashes" in rest or "--no-deps" in rest for rest in installs)
    bases = {rest.split()[0] for rest in told("FROM")}
    assert len(bases) == 1
    [minor] = re.findall(r'requires-python = ">=(\d\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert re.fullmatch(rf"python:{re.escape(minor)}-slim-\w+", bases.pop())


def test_the_image_holds_no_secret_and_runs_as_nobody_special():
    stage = last_stage()
    assert [rest for name, rest in stage if name == "USER"] == ["10001:10001"]
    names = [name for name, _ in stage]
    assert not {"ARG", "ADD"} & set(names)
    assert "COPY" not in names[names.index("USER") :]
    assert "RUN" not in names[names.index("USER") :]
    environment = " ".join(told("ENV") + told("RUN"))
    assert not re.search(r"(KEY|TOKEN|PASSWORD|SECRET)", environment)


def test_the_image_is_watched_and_keeps_its_state_in_one_volume():
    [check] = told("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert "/healthz" in command[-1]
    compile(command[-1], "healthcheck", "exec")
    [volume] = told("VOLUME")
    assert f"ALPHAAGENT_HOME={volume}/" in " ".join(told("ENV"))
    assert f"HOME={volume} " in " ".join(told("ENV"))  # where machine code of another processor is kept
    [start] = told("CMD")
    port = told("EXPOSE")[0]
    assert json.loads(start) == ["alphaagent", "serve", "--host", "0.0.0.0", "--port", port]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_each_container_is_confined(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert "privileged" not in service
    assert "hostname" not in service  # executors are told apart by it
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])
    assert "max-size" in service["logging"]["options"]
    assert int(service["stop_grace_period"].removesuffix("s")) > 10
    volumes = [mount.split(":")[0] for mount in service["volumes"]]
    assert volumes
    assert set(volumes) <= set(COMPOSE["volumes"])
    for mount in service.get("ports", []):
        assert mount.startswith("127.0.0.1:")


def test_no_secret_has_a_value_in_the_file():
    for service in COMPOSE["services"].values():
        for name, value in service["environment"].items():
            if re.search(r"(KEY|TOKEN|PASSWORD|SECRET|MODELS|URL)", name):
                assert re.fullmatch(r"\$\{\w+:-\}", value), name


def test_the_profile_adds_postgres_and_a_worker_and_nobody_else_reaches_the_database():
    services = COMPOSE["services"]
    assert {name for name, service in services.items() if "profiles" not in service} == {"alphaagent"}
    assert all(service["profiles"] == ["postgres"] for service in services.values() if "profiles" in service)
    postgres, worker = services["postgres"], services["worker"]
    assert postgres["image"].startswith("postgres:16")
    assert "ports" not in postgres
    assert "pg_isready" in postgres["healthcheck"]["test"]
    assert worker["command"][0] == "alphaagent"
    assert worker["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert worker["volumes"] == services["alphaagent"]["volumes"]  # the same markets
    assert worker["environment"] == services["alphaagent"]["environment"]

"""A throwaway PostgreSQL server from the installed binaries, with a database for each test that asks."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

import psycopg


def binaries():
    """The folder of ``initdb`` and ``postgres``, ``None`` where they are not installed."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    return next((place for place in [*found, *places] if (place / "initdb").exists()), None)


def _unprivileged():
    """Whom the server runs as: PostgreSQL refuses to be run by root."""
    if os.getuid():
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Server:
    """A running server on loopback; :meth:`database` makes a new empty database."""

    def __init__(self, folder):
        self._folder, self._who, self._numbers = Path(folder), _unprivileged(), count(1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        if self._who:
            os.chown(self._folder, self._who["user"], self._who["group"])
        place, data = binaries(), self._folder / "data"
        made = [place / "initdb", "-D", data, "-U", "alphaagent", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd="/", **self._who)
        settings = ["fsync=off", f"port={self.port}", f"unix_socket_directories={self._folder}", "max_connections=200"]
        self._process = subprocess.Popen(
            [place / "postgres", "-D", data, *(part for one in settings for part in ("-c", one))],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._who,
        )
        self._wait()

    def _wait(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                return psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.1)

    def url(self, name):
        return f"postgresql://alphaagent@127.0.0.1:{self.port}/{name}"

    def database(self):
        """The URL of a new empty database."""
        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def close(self):
        self._process.send_signal(3)  # SIGQUIT: at once, there is nothing to keep
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def start():
    """A server in a folder that everybody may pass through."""
    return Server(tempfile.mkdtemp(prefix="alphaagent-postgres-", dir="/tmp"))

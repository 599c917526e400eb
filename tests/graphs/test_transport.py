"""An answer that was cut is none, also where nothing but the end of the connection tells its end."""

import socket
import threading
import time
from contextlib import closing

import httpx2
import pytest

from graphs.transport import BoundedTransport

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"


@pytest.fixture
def dripping():
    """The URL of a server that sends a byte every 20 ms: ``dripping(bytes)``, and then closes."""
    servers = []

    def serve(count):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def answer():
            connection, _ = server.accept()
            with closing(connection):
                connection.recv(10_000)
                connection.sendall(HEAD)
                for _ in range(count):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return
                    time.sleep(0.02)

        threading.Thread(target=answer, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/"

    yield serve
    for server in servers:
        server.close()


def ask(url, seconds, stopped=bool):
    with httpx2.Client(transport=BoundedTransport(stopped)) as client:
        return client.get(url, timeout=seconds).content


def test_an_answer_that_ends_in_time_is_whole(dripping):
    assert ask(dripping(10), 30.0) == b"x" * 10


def test_one_that_is_cut_at_its_deadline_is_a_timeout(dripping):
    with pytest.raises(httpx2.ReadTimeout):
        ask(dripping(2000), 0.5)


def test_one_that_nobody_waits_for_is_a_timeout_as_well(dripping):
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    began = time.monotonic()
    with pytest.raises(httpx2.ReadTimeout):
        ask(dripping(2000), 60.0, stopped.is_set)
    assert time.monotonic() - began < 20

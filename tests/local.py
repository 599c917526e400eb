"""A client in the service's own process that stands for a program on the same machine."""

from fastapi.testclient import TestClient


def local_client(service):
    return TestClient(service, base_url="http://localhost", client=("127.0.0.1", 50_000))

"""A receiver of webhooks: an HTTPS server on loopback with a certificate of an authority of these tests' own."""

import ssl
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "hooks.example.com"
URL = f"https://{HOST}/events"


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and a certificate that it made for one host."""

    folder: object

    @property
    def certificate(self):
        return self.folder / "authority.pem"

    def trusted(self):
        return ssl.create_default_context(cafile=str(self.certificate))


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def authority(folder, host=HOST):
    """An authority in a folder that vouches for one host."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    made = ("-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=Tests")
    usage = ("-addext", "keyUsage=critical,keyCertSign")
    openssl(folder, "req", "-x509", *key, *made, *usage)
    extensions = ("-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=CA:FALSE")
    signed = ("-CA", "authority.pem", "-CAkey", "authority.key", "-keyout", "host.key", "-out", "host.pem")
    openssl(folder, "req", "-x509", *key, *signed, "-subj", f"/CN={host}", *extensions)
    return Authority(folder)


@dataclass(frozen=True)
class Post:
    """What came."""

    path: str
    headers: dict[str, str]
    body: bytes
    sni: str


class Receiver:
    """What it got, in ``posts``; what it does then is ``behave(handler)``'s, which answers 204 unless it is changed."""

    def __init__(self, folder, address="127.0.0.1"):
        self.posts, self.behave, self.answered = [], answer(204), 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "host.pem", folder / "host.key")
        self._context.sni_callback = lambda tls, name, _: setattr(tls, "named", name)
        receiver = self

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 100
            address_family = 10 if ":" in address else 2

            def handle_error(self, *_):
                """A client that hangs up is no news."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                self.request.settimeout(10)
                self.request = receiver._context.wrap_socket(self.request, server_side=True)
                super().setup()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.posts.append(Post(self.path, headers, body, self.request.named))
                receiver.behave(self)
                receiver.answered += 1

            def finish(self):
                super().finish()
                self.request.close()

            def log_message(self, *_):
                """Into no log."""

        self._server = Server((address, 0), Handler)
        self.address = self._server.server_address[:2]

    @contextmanager
    def serving(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


def answer(status, **headers):
    """A behaviour: a status and no body."""

    def behave(handler):
        handler.send_response(status)
        for name, value in {"Content-Length": "0", "Connection": "close", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()

    return behave

"""The local page: `/metrics` for Prometheus, `/healthz` and `/readyz` for probes, over plain HTTP.

It has no password and no TLS because it is for this machine: it listens on 127.0.0.1 unless the operator
names another address, and only where a port is configured. It answers from memory and takes no argument.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from pydantic import field_validator

from fedmedlora_core.config import Section
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.operating.logbook import tell
from fedmedlora_protos.operating.vitals import Health

_LOG = logging.getLogger(__name__)
_READ_SECONDS: Final = 10
_PLAIN: Final = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))
LOOPBACK: Final = "127.0.0.1"


def split_listen(value: str) -> tuple[str, int]:
    """Split `metrics.listen`: PORT alone is on 127.0.0.1, HOST:PORT where it says.

    Raises:
        ValueError: It is neither.
    """
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or LOOPBACK
    if not port.isdecimal() or not 0 < int(port) < 65536 or any(c.isspace() for c in host):
        raise ValueError(f"'{value}' must be PORT or HOST:PORT")
    return host, int(port)


class MetricsSection(Section):
    """Where metrics and probes are shown, in plain HTTP to whoever can reach it; nowhere by default."""

    listen: str = ""  # PORT, on 127.0.0.1, or HOST:PORT

    @field_validator("listen")
    @classmethod
    def _port(cls, value: str) -> str:
        if value:
            split_listen(value)
        return value


class LocalPage:
    """Serves the page from a thread while it is open.

    Args:
        listen: `metrics.listen`; empty serves nothing.
        registry: What `/metrics` shows.
        health: What the probes show.
        writable: Asked by `/readyz`: whether the durable state can be written at this moment.
    """

    def __init__(
        self,
        listen: str,
        registry: CollectorRegistry,
        health: Health,
        writable: Callable[[], bool] = lambda: True,
    ) -> None:
        """Bind the port, if one is named; requests are answered once it is entered.

        Raises:
            ConfigError: The port is in use or the address not this machine's (the operator's).
        """
        self._metrics: Any = make_wsgi_app(registry)
        self._health = health
        self._writable = writable
        self._server: _Server | None = None
        if not listen:
            return
        host, port = split_listen(listen)
        try:
            self._server = _server_at(host, port)
        except OSError as exc:
            raise ConfigError(f"metrics.listen: cannot listen at {listen} ({exc.strerror})") from None
        self._server.set_app(self._answer)
        shown = f"{host}:{self._server.server_port}"
        tell(_LOG, "page_open" if _is_loopback(host) else "page_exposed", address=shown)

    @property
    def port(self) -> int:
        """The port it listens on, 0 for none."""
        return 0 if self._server is None else self._server.server_port

    def __enter__(self) -> Self:
        """Answer requests from now on."""
        if self._server is not None:
            threading.Thread(target=self._server.serve_forever, name="local-page", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _say(start, "405 Method Not Allowed", "GET only")
        match environ.get("PATH_INFO"):
            case "/metrics":
                return list(self._metrics(environ, start))
            case "/healthz":
                return _probe(start, self._health.stalled())
            case "/readyz":
                problems = self._health.problems()
                return _probe(start, problems or (() if self._writable() else ("read_only",)))
            case _:
                return _say(start, "404 Not Found", "/metrics, /healthz, /readyz")


class _Handler(WSGIRequestHandler):
    """Answers without a line per request; a client that sends nothing is let go of."""

    timeout = _READ_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a probe comes every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True

    def server_bind(self) -> None:
        """Bind without asking the name service who this machine is, which can take half a minute."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away in the middle."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server_at(host: str, port: int) -> _Server:
    kind = _Server6 if ":" in host else _Server
    return kind((host, port), _Handler)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _probe(start: Any, problems: Iterable[str]) -> Iterable[bytes]:
    found = list(problems)
    return _say(start, "503 Service Unavailable" if found else "200 OK", "\n".join(found) or "ok")


def _say(start: Any, status: str, text: str) -> Iterable[bytes]:
    start(status, list(_PLAIN))  # the server adds to the list that it is given
    return [f"{text}\n".encode()]

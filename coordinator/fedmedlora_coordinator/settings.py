"""The coordinator's TOML file: addresses, patience, limits (units are in the names)."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, field_validator

from fedmedlora_coordinator.peer_settings import Peers
from fedmedlora_core.config import Section, load_toml
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.operating.local_page import MetricsSection


class Listeners(Section):
    """Where sites reach the coordinator, and where it listens."""

    name: str = Field(min_length=1, max_length=48)
    address: str  # host:port that sites dial
    enrolment_address: str
    listen: str  # host:port that is bound
    enrolment_listen: str

    @field_validator("address", "enrolment_address", "listen", "enrolment_listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        try:
            split_address(value)
        except ConfigError as exc:
            raise ValueError(str(exc)) from None
        return value


class Timing(Section):
    """How long the coordinator waits for a site that is not there.

    A site that holds its stream open counts as there. With enough sites for the threshold the round goes on
    without one that was away for the grace time; with too few it is given up after the abort time.
    """

    grace_seconds: float = Field(default=120.0, gt=0)  # away during key agreement, upload, unmasking
    ready_grace_seconds: float = Field(default=300.0, gt=0)  # away during training
    abort_seconds: float = Field(default=900.0, gt=0)  # too few sites for the threshold
    step_seconds: float = Field(default=900.0, gt=0)  # there, but silent, in a step other than training
    training_seconds: float = Field(default=172_800.0, gt=0)  # there, but silent, in training


class Limits(Section):
    """Bounds on what a member may make the coordinator store or repeat."""

    max_blob_bytes: int = Field(default=4 << 30, ge=1 << 20)
    max_open_uploads_per_site: int = Field(default=8, ge=1)  # unfinished, or named in no event yet
    max_attempts: int = Field(default=3, ge=1, le=100)  # sessions of one round before it is given up


class Evidence(Section):
    """What happens to masked uploads and opened shares once a round is closed: T members have verified it."""

    after_round: Literal["shred", "keep"] = "shred"
    keep_rounds: int = Field(default=0, ge=0)  # with "keep": shred after this many later rounds; 0 never


class Stamps(Section):
    """Which authority dates the heads that close rounds (RFC 3161); without a URL none does."""

    tsa_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    tsa_certificates: str = "tsa.pem"  # PEM in this folder: its roots, and issuers it does not send along
    timeout_seconds: float = Field(default=10.0, gt=0, le=60)
    retry_seconds: float = Field(default=60.0, gt=0)  # after the authority did not answer


class Store(Section):
    """Where log and enrolment lie: in the folder (SQLite), or in a PostgreSQL database of their own.

    The password stands in no file of settings: it comes from the environment, from a file of mode 0600, or
    from where libpq looks (`~/.pgpass`).
    """

    url: str = ""  # postgresql://ROLE@HOST:PORT/DATABASE; empty: SQLite in this folder
    password_variable: str = Field(default="FEDMEDLORA_STORE_PASSWORD", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    password_file: str = ""  # in this folder, or a whole path; its first line
    patience_seconds: float = Field(default=600.0, ge=0)  # `serve` waits so long for a database that is away

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            if value:
                PostgresAddress.parse(value)
        except ConfigError as exc:
            raise ValueError(str(exc)) from None
        return value


@dataclass(frozen=True)
class PostgresAddress:
    """A PostgreSQL database, as `store.url` names it.

    Attributes:
        role: As whom to log in; None is the system's user.
        host: Name, address, or the folder of a local socket; None is the default socket.
        port: Port; None is the default.
        database: Name of the database.
        tls: libpq's settings of TLS; to another machine the server's certificate is always checked.
    """

    role: str | None
    host: str | None
    port: int | None
    database: str
    tls: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> "PostgresAddress":
        """Read `postgresql://ROLE@HOST:PORT/DATABASE?sslrootcert=…`.

        Raises:
            ConfigError: It is no such URL, has a password, or would not check the server (the operator's).
        """
        form = "store.url must be postgresql://ROLE@HOST:PORT/DATABASE"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigError(form) from None
        if parts.password is not None:
            raise ConfigError("store.url must not have the password in it: see store.password_variable")
        database = unquote(parts.path.removeprefix("/"))
        if parts.scheme not in ("postgresql", "postgresql+psycopg") or not database or "/" in database:
            raise ConfigError(form)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        host = parts.hostname or query.pop("host", None)
        if unknown := sorted(query.keys() - _TLS_KEYS):
            raise ConfigError(f"store.url: '{unknown[0]}' is not one of {', '.join(sorted(_TLS_KEYS))}")
        if host is not None and not host.startswith("/") and not _is_loopback(host):
            query.setdefault("sslmode", "verify-full")
            if query["sslmode"] not in ("verify-full", "verify-ca"):
                raise ConfigError("store.url: to another machine sslmode must be verify-full or verify-ca")
        return cls(unquote(parts.username) if parts.username else None, host, port, database, query)


_TLS_KEYS: Final = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey"})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class CoordinatorSettings(Section):
    """The whole of coordinator.toml."""

    coordinator: Listeners
    timing: Timing = Timing()
    limits: Limits = Limits()
    peers: Peers = Peers()
    evidence: Evidence = Evidence()
    stamps: Stamps = Stamps()
    store: Store = Store()
    metrics: MetricsSection = MetricsSection()

    @classmethod
    def load(cls, path: Path) -> "CoordinatorSettings":
        """Read coordinator.toml; an unknown key is a ConfigError that names the nearest one."""
        return load_toml(path, cls)

    def to_toml(self) -> str:
        """Write every setting out, so that the operator sees what there is to change."""
        lines = []
        for section, values in self.model_dump().items():
            lines.append(f"[{section}]")
            lines.extend(f"{key} = {_literal(value)}" for key, value in values.items())
            lines.append("")
        return "\n".join(lines)


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port`; IPv6 hosts stand in brackets.

    Raises:
        ConfigError: There is no host or no valid port (the operator's).
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"address '{address}' must be HOST:PORT")
    return host, int(port)


def _literal(value: object) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return repr(value)

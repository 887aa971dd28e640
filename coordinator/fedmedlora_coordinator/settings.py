"""The coordinator's TOML file: addresses, patience, limits (units are in the names)."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from fedmedlora_core.config import Section, load_toml
from fedmedlora_core.errors import ConfigError


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

    grace_seconds: float = Field(default=30.0, gt=0)  # away during key agreement, upload, unmasking
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


class CoordinatorSettings(Section):
    """The whole of coordinator.toml."""

    coordinator: Listeners
    timing: Timing = Timing()
    limits: Limits = Limits()
    evidence: Evidence = Evidence()
    stamps: Stamps = Stamps()

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
    return repr(value)

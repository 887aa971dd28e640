"""Section `[peers]` of coordinator.toml: what one peer may take of the two listeners (units in the names)."""

from pydantic import Field

from fedmedlora_core.config import Section


class Peers(Section):
    """Limits per address and per site; honest sites meet none of them.

    What one address can make the coordinator hold in memory is connections times streams times a message of
    1 MiB; sites that read and send are held to far less by `transfers`. Enrolment is open to the whole
    network, so it gets less of everything.
    """

    connections: int = Field(default=2048, ge=16)  # of each listener, all addresses together
    connections_per_address: int = Field(default=16, ge=1)
    new_connections_per_second: float = Field(default=5.0, gt=0)  # of one address; a burst of 8 times that
    # Many sites come from them, as through a proxy: no limit per address.
    shared_addresses: list[str] = Field(default=["127.0.0.1", "::1"])
    connections_per_site: int = Field(default=8, ge=1)
    streams_per_connection: int = Field(default=8, ge=2)
    calls_per_second: float = Field(default=500.0, gt=0)  # of one site; a burst of twice that
    handshake_seconds: int = Field(default=20, ge=1, le=120)
    header_bytes: int = Field(default=8192, ge=1024)
    enrolment_connections_per_address: int = Field(default=8, ge=1)
    enrolment_new_connections_per_second: float = Field(default=2.0, gt=0)  # of one address; as above
    enrolment_calls_per_second: float = Field(default=1.0, gt=0)  # of one address; a burst of 32 times that
    enrolment_seconds: int = Field(default=30, ge=5)  # how long one connection may stay

"""Listeners and callers: TLS 1.3, mutual certificates, and who is at the other end (PROTOCOL §3.1).

gRPC listens on the loopback only; the public side of each listener is a `Door`.
"""

from collections.abc import Callable
from typing import Any

from fedmedlora_protos import wire

# isort: split
import grpc  # after fedmedlora_protos, which takes TLS 1.2 away before grpc reads its environment

from fedmedlora_coordinator.counting import CallCounter
from fedmedlora_coordinator.door import Door
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.peer_limits import PeerLimits
from fedmedlora_coordinator.peer_settings import Peers
from fedmedlora_coordinator.unknown_methods import UnknownMethods
from fedmedlora_coordinator.version_gate import VersionGate
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.wire import PeerCertificate, Reason

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *wire.CHANNEL_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # What nobody reads yet stays with its sender: no window grows ahead of the reader (ADR 0055).
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_535),
    # Nor does what a connection once read fast keep room for more: it has 64 KiB at most (ADR 0055).
    ("grpc.experimental.tcp_max_read_buffer_size", 65_536),
    ("grpc.experimental.tcp_max_read_chunk_size", 65_536),
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
)
MAX_REQUEST_BYTES = wire.CHUNK_BYTES + 64 * 1024  # a chunk with its proof; an event is smaller
MAX_ENROLMENT_BYTES = 32 * 1024
IDLE_SECONDS = 60  # a site's stream is open for as long as it takes part
REFUSED_VERSION_SECONDS = 0.5  # who is refused for its version asks at most 16 times a second and connection
CLOSING_SECONDS = 5  # running calls of a connection whose time is over may finish


def federation_server(peers: Peers, limits: PeerLimits, admit: Callable[[Any], object]) -> grpc.aio.Server:
    """Make the server of the federation, without listeners (R3.1.5).

    Args:
        peers: The settings.
        limits: Who calls too often.
        admit: Decides on the caller of a method that nobody serves.
    """
    options = _options(peers, MAX_REQUEST_BYTES, IDLE_SECONDS, peers.streams_per_connection)
    return grpc.aio.server(interceptors=_interceptors("call_refused", limits, admit), options=options)


def enrolment_server(peers: Peers, limits: PeerLimits) -> grpc.aio.Server:
    """Make the server that enrols, without listeners: anybody may call it, so it is stricter.

    One call at a time on a connection, and connections are counted at the door. A bound of the calls of all
    together would be one that a single address can use up (ADR 0056).

    Args:
        peers: The settings.
        limits: Who calls too often.
    """
    # R3.1.6
    options = _options(peers, MAX_ENROLMENT_BYTES, peers.enrolment_seconds, streams=1)
    age = (
        ("grpc.max_connection_age_ms", peers.enrolment_seconds * 1000),
        ("grpc.max_connection_age_grace_ms", CLOSING_SECONDS * 1000),
    )
    interceptors = _interceptors(
        "enrolment_refused", limits, lambda context: limits.admit_refused(context.peer())
    )
    return grpc.aio.server(interceptors=interceptors, options=(*options, *age))


def _interceptors(
    event: str, limits: PeerLimits, admit: Callable[[Any], object]
) -> list[grpc.aio.ServerInterceptor]:
    gate = VersionGate(event, seconds=REFUSED_VERSION_SECONDS, limits=limits)
    return [CallCounter(), UnknownMethods(limits, admit), gate]


def _options(
    peers: Peers, message_bytes: int, idle_seconds: int, streams: int
) -> tuple[tuple[str, int], ...]:
    """Each name once: of two values of one name gRPC takes the first."""
    own = {
        "grpc.max_receive_message_length": message_bytes,
        "grpc.max_concurrent_streams": streams,
        "grpc.max_metadata_size": peers.header_bytes,
        "grpc.absolute_max_metadata_size": peers.header_bytes,
        "grpc.server_handshake_timeout_ms": peers.handshake_seconds * 1000,
        "grpc.max_connection_idle_ms": idle_seconds * 1000,
    }
    return tuple({**dict(SERVER_OPTIONS), **own}.items())


def mutual_credentials(folder: Folder) -> grpc.ServerCredentials:
    """Credentials that demand a client certificate of this federation's CA."""
    # R3.1.1
    return _credentials(folder, mutual=True)


def enrolment_credentials(folder: Folder) -> grpc.ServerCredentials:
    """Credentials for the enrolment listener: the server proves itself, the caller brings a token."""
    return _credentials(folder, mutual=False)


def _credentials(folder: Folder, *, mutual: bool) -> grpc.ServerCredentials:
    """Make credentials that follow the files: a renewed server certificate holds for the next connection."""
    held = _material(folder)

    def configuration() -> grpc.ServerCertificateConfiguration:
        key, chain, ca = held
        return grpc.ssl_server_certificate_configuration([(key, chain)], ca if mutual else None)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal held
        try:
            found = _material(folder)
        except ConfigError:
            return None  # what was read at the start goes on
        if found == held:
            return None
        held = found
        return configuration()

    first = configuration()
    return grpc.dynamic_ssl_server_credentials(
        first,
        fetch,  # type: ignore[arg-type]  # None, for no change, is documented
        require_client_authentication=mutual,
    )


async def listen(
    server: grpc.aio.Server, door: Door, address: str, credentials: grpc.ServerCredentials
) -> int:
    """Start a server behind its door and return the public port.

    Raises:
        ConfigError: The address is in use or not ours (the operator's).
    """
    inner = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    host, _, port = address.rpartition(":")
    return door.start((host.removeprefix("[").removesuffix("]"), int(port)), int(inner))


def peer_certificate(context: "grpc.aio.ServicerContext[object, object]") -> PeerCertificate:
    """Return whose certificate the caller has, and which; TLS has verified it.

    Raises:
        PeerRefusedError: not_a_member: the certificate names no site.
    """
    auth = context.auth_context()
    pems = list(auth.get("x509_pem_cert", []))
    if len(pems) != 1:
        raise PeerRefusedError(Reason.NOT_A_MEMBER)
    try:
        return wire.read_certificate(bytes(pems[0]))
    except wire.WireError:
        raise PeerRefusedError(Reason.NOT_A_MEMBER) from None


def _material(folder: Folder) -> tuple[bytes, bytes, bytes]:
    try:
        certificate = folder.tls_certificate.read_bytes()
        ca = folder.ca_certificate.read_bytes()
        return folder.tls_key.read_bytes(), certificate + ca, ca
    except OSError as exc:
        raise ConfigError(f"{exc.filename}: cannot be read ({exc.strerror})") from None

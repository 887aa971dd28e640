"""Listeners and callers: TLS 1.3, mutual certificates, and who is at the other end (PROTOCOL §3.1)."""

from fedmedlora_protos import wire

# isort: split
import grpc  # after fedmedlora_protos, which takes TLS 1.2 away before grpc reads its environment

from fedmedlora_coordinator.counting import CallCounter
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.version_gate import VersionGate
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.wire import Reason

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *wire.CHANNEL_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_concurrent_streams", 64),
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
)


def federation_server() -> grpc.aio.Server:
    """Make a server without listeners, with this project's limits."""
    return grpc.aio.server(interceptors=[CallCounter(), VersionGate()], options=SERVER_OPTIONS)


def mutual_credentials(folder: Folder) -> grpc.ServerCredentials:
    """Credentials that demand a client certificate of this federation's CA."""
    key, chain, ca = _material(folder)
    # R3.1.1
    return grpc.ssl_server_credentials([(key, chain)], root_certificates=ca, require_client_auth=True)


def enrolment_credentials(folder: Folder) -> grpc.ServerCredentials:
    """Credentials for the enrolment listener: the server proves itself, the caller brings a token."""
    key, chain, _ = _material(folder)
    return grpc.ssl_server_credentials([(key, chain)])


def bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials) -> int:
    """Bind one TLS listener and return its port.

    Raises:
        ConfigError: The address is in use or not ours (the operator's).
    """
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError:
        port = 0
    if port == 0:
        raise ConfigError(f"{address}: cannot listen there; is the port in use?")
    return int(port)


def peer_site(context: "grpc.aio.ServicerContext[object, object]") -> str:
    """Return the site id in the caller's certificate, which TLS has verified.

    Raises:
        PeerRefusedError: not_a_member: the certificate names no site.
    """
    auth = context.auth_context()
    pems = list(auth.get("x509_pem_cert", []))
    if len(pems) != 1:
        raise PeerRefusedError(Reason.NOT_A_MEMBER)
    try:
        return wire.site_id_of_certificate(pems[0])
    except wire.WireError:
        raise PeerRefusedError(Reason.NOT_A_MEMBER) from None


def _material(folder: Folder) -> tuple[bytes, bytes, bytes]:
    try:
        certificate = folder.tls_certificate.read_bytes()
        ca = folder.ca_certificate.read_bytes()
        return folder.tls_key.read_bytes(), certificate + ca, ca
    except OSError as exc:
        raise ConfigError(f"{exc.filename}: cannot be read ({exc.strerror})") from None

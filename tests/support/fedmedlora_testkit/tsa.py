"""A real time-stamping authority: `openssl ts` behind a small loopback HTTP server.

A root, an issuing authority and the authority's own certificate, each of any validity; every stamp is made by
the openssl command line, on the clock of this machine.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.checkpoint import Checkpoint
from fedmedlora_audit.stamps import load_root, open_stamp, request_of
from fedmedlora_audit.trust import Trust

RECORDED = Path(__file__).resolve().parents[2] / "vectors" / "stamps" / "expired.json"
OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="the openssl command is not installed")

CONFIG = """
[tsa]
default_tsa = local
[local]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
certs = {folder}/issuer.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ordering = no
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""

Key = ec.EllipticCurvePrivateKey
Answer = Callable[[bytes], bytes]
DAY = dt.timedelta(days=1)


class Authority:
    """One authority over one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        valid: tuple[dt.datetime, dt.datetime] | None = None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.TIME_STAMPING,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        now = dt.datetime.now(dt.UTC)
        long = (now - 3650 * DAY, now + 3650 * DAY)
        root_key, issuer_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        # openssl writes the signer's certificate first; DER, which the library demands, the shorter: a long
        # name of the root makes the issuer's certificate the longer one.
        self.root = _certificate("root of all stamps that are made for tests", root_key, None, long)
        self.issuer = _certificate("issuer", issuer_key, (self.root, root_key), long)
        self.certificate = _certificate(
            "stamps", key, (self.issuer, issuer_key), valid or (now - DAY, now + DAY), usage=usage
        )
        (folder / "tsa.pem").write_bytes(_pem(self.certificate))
        (folder / "issuer.pem").write_bytes(_pem(self.issuer))
        (folder / "root.pem").write_bytes(_pem(self.root))
        (folder / "tsa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))

    def reply(self, query: bytes) -> bytes:
        """Answer a request, whoever asks."""
        assert OPENSSL is not None
        asked, answered = self.folder / "query.tsq", self.folder / "reply.tsr"
        asked.write_bytes(query)
        config = ["-config", str(self.folder / "tsa.cnf"), "-section", "local"]
        command = [OPENSSL, "ts", "-reply", "-queryfile", str(asked), "-out", str(answered), *config]
        subprocess.run(command, check=True, capture_output=True)
        return answered.read_bytes()

    def stamp(self, head: Checkpoint) -> bytes:
        """Stamp a head, now."""
        return self.reply(request_of(head)[0])


def recorded_stamp() -> tuple[bytes, Checkpoint, x509.Certificate, dt.datetime]:
    """The stamp of the vectors, its head, the root behind it, and when its certificate expired."""
    table = json.loads(RECORDED.read_text(encoding="utf-8"))
    head = Checkpoint(table["origin"], table["size"], bytes.fromhex(table["root"]))
    stamp = base64.b64decode(table["stamp"])
    return stamp, head, load_root(table["tsa_root"]), dt.datetime.fromisoformat(table["expired"])


def open_as_recorded(stamp: bytes) -> dt.datetime:
    """Open a stamp as one over the head of the vectors."""
    _, head, root, _ = recorded_stamp()
    return open_stamp(stamp, head, [root])


def trust_files(terms: CharterTerms) -> list[bytes]:
    """One trust file without an authority, and one with."""
    roots = [recorded_stamp()[2]]
    made = (Trust.from_terms(terms, genesis="0" * 64, tsa_roots=given) for given in ([], roots))
    return [trust.to_json() for trust in made]


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(
    name: str,
    key: Key,
    issuer: tuple[x509.Certificate, Key] | None,
    valid: tuple[dt.datetime, dt.datetime],
    *,
    usage: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {name}")])
    builder = x509.CertificateBuilder(
        subject if issuer is None else issuer[0].subject,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        *valid,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if issuer is not None:  # authorities of one name are told apart by their keys
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key())
        builder = builder.add_extension(above, critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
    return builder.sign(key if issuer is None else issuer[1], hashes.SHA256())


@contextmanager
def serving(answer: Answer, *, status: int = 200) -> Iterator[str]:
    """Serve answers to time-stamp requests on a loopback port; gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

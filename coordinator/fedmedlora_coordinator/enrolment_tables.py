"""The tables of enrolment: invitations, and every client certificate that was issued (PROTOCOL §2.1).

Both lie in one database, are written in one transaction, and go into a backup together. A register that was
made before there was a table of certificates gets its rows from the certificates kept with the invitations.
"""

import datetime as dt
import hashlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    insert,
    select,
)

from fedmedlora_coordinator.database import Database, transaction
from fedmedlora_coordinator.layout import ENROLMENT

_SECONDS: Final = BigInteger().with_variant(Integer, "sqlite")  # since 1970, UTC
METADATA: Final = MetaData()
INVITATIONS: Final = Table(
    "invitations",
    METADATA,
    Column("token_hash", LargeBinary(32), primary_key=True),
    Column("site", Text, nullable=False, index=True),
    Column("expires", _SECONDS, nullable=False),
    Column("request_hash", LargeBinary(32)),  # of the one request that used the token
    Column("certificate", LargeBinary),
    Column("event_vkey", Text),  # before the token is used: the only key that may use it
    Column("witness_vkey", Text),
    sqlite_strict=True,
)
CERTIFICATES: Final = Table(
    "certificates",
    METADATA,
    Column("number", _SECONDS, primary_key=True, autoincrement=False),  # in the order of issue
    Column("serial", Text, nullable=False, unique=True),
    Column("site", Text, nullable=False, index=True),
    Column("begins", _SECONDS, nullable=False),
    Column("ends", _SECONDS, nullable=False),
    Column("issued", _SECONDS, nullable=False),
    Column("key_hash", LargeBinary(32), nullable=False),  # SHA-256 of its public key
    Column("certificate", LargeBinary, nullable=False),
    Column("retired", _SECONDS),  # when a newer one of the site was first used
    Column("revoked", _SECONDS),
    Column("reason", Text),
    sqlite_strict=True,
)


def create_tables(connection: Connection, database: Database) -> None:
    """Make the tables that are missing, without a row in them.

    Raises:
        UnservableStoreError: A newer release has written them.
    """
    ENROLMENT.require_known(connection, database)
    METADATA.create_all(connection)
    ENROLMENT.record(connection)


def open_tables(database: Database) -> Engine:
    """Open enrolment's database beside other processes that may have it open; what is missing is made.

    Raises:
        StoreError: It cannot be opened.
        StoreUnreachableError: Nobody answers.
    """
    engine = database.open_shared()
    with transaction(engine, f"{database.place}: cannot be opened") as connection:
        make_tables(connection, database)
    return engine


def make_tables(connection: Connection, database: Database) -> None:
    """Make what is missing, rows too; called under the write lock."""
    create_tables(connection, database)
    known = set(connection.execute(select(CERTIFICATES.c.serial)).scalars())
    used = select(INVITATIONS.c.site, INVITATIONS.c.certificate)
    rows = connection.execute(used.where(INVITATIONS.c.certificate.is_not(None))).all()
    found = [(row.site, bytes(row.certificate)) for row in rows]
    for site, pem in sorted(found, key=lambda item: _begins(item[1])):
        if _serial(pem) not in known:
            record_certificate(connection, site, pem, _begins(pem))


def record_certificate(connection: Connection, site: str, pem: bytes, now: dt.datetime) -> None:
    """Enter a certificate that was just issued, in the transaction that hands it out."""
    certificate = x509.load_pem_x509_certificate(pem)
    newest = connection.execute(select(func.max(CERTIFICATES.c.number))).scalar()
    connection.execute(
        insert(CERTIFICATES).values(
            number=(newest or 0) + 1,
            serial=f"{certificate.serial_number:x}",
            site=site,
            begins=int(certificate.not_valid_before_utc.timestamp()),
            ends=int(certificate.not_valid_after_utc.timestamp()),
            issued=int(now.timestamp()),
            key_hash=key_hash(certificate),
            certificate=pem,
        )
    )


def key_hash(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """SHA-256 of a public key: what tells whether a renewal is asked for again."""
    spki = holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).digest()


def _serial(pem: bytes) -> str:
    return f"{x509.load_pem_x509_certificate(pem).serial_number:x}"


def _begins(pem: bytes) -> dt.datetime:
    return x509.load_pem_x509_certificate(pem).not_valid_before_utc

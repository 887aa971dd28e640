"""Invitations and the certificates issued for them (PROTOCOL §2).

Contract: a token is good for one request. `redeem` decides and records in one durable transaction, so of two
requests with one token one wins, also across a kill; the same request sent again gets the same certificate.
Only the hash of a token is kept.
"""

import datetime as dt
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    insert,
    select,
    update,
)

from fedmedlora_coordinator.database import Database, copy_tables, transaction
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.layout import ENROLMENT
from fedmedlora_protos.wire import Reason

_UNWRITABLE = "the enrolment register could not be written"
_METADATA = MetaData()
_INVITATIONS = Table(
    "invitations",
    _METADATA,
    Column("token_hash", LargeBinary(32), primary_key=True),
    Column("site", Text, nullable=False, index=True),
    Column(
        "expires", BigInteger().with_variant(Integer, "sqlite"), nullable=False
    ),  # seconds since 1970, UTC
    Column("request_hash", LargeBinary(32)),  # of the one request that used the token
    Column("certificate", LargeBinary),
    Column("event_vkey", Text),
    Column("witness_vkey", Text),
    sqlite_strict=True,
)


@dataclass(frozen=True)
class EnrolledSite:
    """A site that holds a certificate of this federation."""

    site: str
    event_vkey: str
    witness_vkey: str


class Register:
    """The durable table of invitations; `serve` and `invite` may write it beside each other."""

    def __init__(self, database: Database) -> None:
        """Open (and make, if new) the register.

        Raises:
            StoreError: It cannot be opened.
            StoreUnreachableError: Nobody answers.
        """
        self._engine = database.open_shared()
        with transaction(self._engine, f"{database.place}: cannot be opened") as connection:
            _make_table(connection, database)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def invite(self, *, site: str, token: str, expires: dt.datetime) -> None:
        """Record an invitation; returns once it is durable."""
        with transaction(self._engine, _UNWRITABLE) as connection:
            connection.execute(
                insert(_INVITATIONS).values(
                    token_hash=token_hash(token), site=site, expires=int(expires.timestamp())
                )
            )

    def redeem(
        self,
        *,
        site: str,
        token: str,
        request_hash: bytes,
        keys: tuple[str, str],
        now: dt.datetime,
        issue: Callable[[], bytes],
    ) -> bytes:
        """Use a token once and return the certificate.

        Args:
            site: Site named in the request.
            token: Its token.
            request_hash: SHA-256 of the whole request but the token.
            keys: The event and witness verifier keys of the request.
            now: Current time.
            issue: Makes the certificate; called at most once.

        Raises:
            PeerRefusedError: bad_token, expired_token or used_token.
            StoreError: The database refused; the token is as good as before.
        """
        given = token_hash(token)
        with transaction(self._engine, _UNWRITABLE) as connection:
            rows = connection.execute(select(_INVITATIONS).where(_INVITATIONS.c.site == site)).all()
            row = next((r for r in rows if hmac.compare_digest(r.token_hash, given)), None)
            if row is None:
                raise PeerRefusedError(Reason.BAD_TOKEN)
            # R2.1.3: a token buys one certificate, and the table holds only its hash.
            if row.request_hash is not None:
                if not hmac.compare_digest(row.request_hash, request_hash):
                    raise PeerRefusedError(Reason.USED_TOKEN)
                return bytes(row.certificate)
            if now.timestamp() >= row.expires:
                raise PeerRefusedError(Reason.EXPIRED_TOKEN)
            certificate = issue()
            connection.execute(
                update(_INVITATIONS)
                .where(_INVITATIONS.c.token_hash == row.token_hash)
                .values(
                    request_hash=request_hash,
                    certificate=certificate,
                    event_vkey=keys[0],
                    witness_vkey=keys[1],
                )
            )
        return certificate

    def enrolled(self) -> list[EnrolledSite]:
        """List the sites that used an invitation, in order of their ids."""
        with transaction(self._engine, "the enrolment register could not be read") as connection:
            rows = connection.execute(
                select(_INVITATIONS).where(_INVITATIONS.c.request_hash.is_not(None)).order_by("site")
            ).all()
        return [EnrolledSite(row.site, row.event_vkey, row.witness_vkey) for row in rows]


def copy_register(source: Database, target: Database) -> None:
    """Copy the register into a database that has none; see `copy_tables`."""
    copy_tables(_METADATA, source, target, _make_table)


def _make_table(connection: Connection, database: Database) -> None:
    ENROLMENT.require_known(connection, database)
    _METADATA.create_all(connection)
    ENROLMENT.record(connection)


def token_hash(token: str) -> bytes:
    """Hash of a token; tokens have 256 random bits, so a plain hash gives nothing away."""
    return hashlib.sha256(b"fedmedlora/v1/token\0" + token.encode()).digest()

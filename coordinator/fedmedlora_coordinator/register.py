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

from sqlalchemy import delete, insert, select, update

from fedmedlora_coordinator.database import Database, copy_tables, transaction
from fedmedlora_coordinator.enrolment_tables import (
    INVITATIONS,
    METADATA,
    create_tables,
    open_tables,
    record_certificate,
)
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_protos.wire import Reason

_UNWRITABLE = "the enrolment register could not be written"


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
        self._engine = open_tables(database)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def invite(self, *, site: str, token: str, expires: dt.datetime, event_vkey: str | None = None) -> None:
        """Record an invitation; returns once it is durable.

        Args:
            site: Who is invited.
            token: Its token; only the hash is kept.
            expires: From when on it is refused.
            event_vkey: The only event key that may use it; None for whichever the site enrols.
        """
        with transaction(self._engine, _UNWRITABLE) as connection:
            connection.execute(
                insert(INVITATIONS).values(
                    token_hash=token_hash(token),
                    site=site,
                    expires=int(expires.timestamp()),
                    event_vkey=event_vkey,
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
        current_key: str | None = None,
    ) -> bytes:
        """Use a token once and return the certificate; the site's other unused invitations are void then.

        Args:
            site: Site named in the request.
            token: Its token.
            request_hash: SHA-256 of the whole request but the token.
            keys: The event and witness verifier keys of the request.
            now: Current time.
            issue: Makes the certificate; called at most once.
            current_key: The site's event key as the log knows it; None where no study runs. It stands before
                the key that an invitation was made for, which may have been rotated since.

        Raises:
            PeerRefusedError: bad_token, expired_token, used_token or other_event_key.
            StoreError: The database refused; the token is as good as before.
        """
        given = token_hash(token)
        with transaction(self._engine, _UNWRITABLE) as connection:
            rows = connection.execute(select(INVITATIONS).where(INVITATIONS.c.site == site)).all()
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
            # R2.1.6: an invitation of an enrolled site is for who holds that site's event key.
            if row.event_vkey is not None and keys[0] != (current_key or row.event_vkey):
                raise PeerRefusedError(Reason.OTHER_EVENT_KEY)
            certificate = issue()
            record_certificate(connection, site, certificate, now)
            connection.execute(
                update(INVITATIONS)
                .where(INVITATIONS.c.token_hash == row.token_hash)
                .values(
                    request_hash=request_hash,
                    certificate=certificate,
                    event_vkey=keys[0],
                    witness_vkey=keys[1],
                )
            )
            # R2.1.6: one that was made before the site enrolled is bound to no key.
            connection.execute(
                delete(INVITATIONS).where(INVITATIONS.c.site == site, INVITATIONS.c.request_hash.is_(None))
            )
        return certificate

    def enrolled(self) -> list[EnrolledSite]:
        """List the used invitations, in order of the sites' ids."""
        with transaction(self._engine, "the enrolment register could not be read") as connection:
            rows = connection.execute(
                select(INVITATIONS).where(INVITATIONS.c.request_hash.is_not(None)).order_by("site")
            ).all()
        return [EnrolledSite(row.site, row.event_vkey, row.witness_vkey) for row in rows]


def copy_register(source: Database, target: Database) -> None:
    """Copy the register into a database that has none; see `copy_tables`."""
    copy_tables(METADATA, source, target, create_tables)


def token_hash(token: str) -> bytes:
    """Hash of a token; tokens have 256 random bits, so a plain hash gives nothing away."""
    return hashlib.sha256(b"fedmedlora/v1/token\0" + token.encode()).digest()

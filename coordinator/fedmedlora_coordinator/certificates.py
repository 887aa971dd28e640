"""Client certificates over the years: renewed, retired, revoked, listed (PROTOCOL §2.1, ADR 0044).

Contract: a certificate that stands in no row gets nobody in. A site may hold two at a time, the one it uses
and a next one; the first use of the newer ends the older, so a kill between issue and use locks nobody out.
Revoking a site ends all its certificates and its unused invitations in one durable transaction.
"""

import datetime as dt
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, func, select, update

from fedmedlora_coordinator.database import Database, transaction
from fedmedlora_coordinator.enrolment_tables import (
    CERTIFICATES,
    INVITATIONS,
    open_tables,
    record_certificate,
)
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.wire import PeerCertificate, Reason

MOST_RENEWALS_A_DAY: Final = 24
_UNWRITABLE: Final = "the register of certificates could not be written"
_UNREADABLE: Final = "the register of certificates could not be read"
_C: Final = CERTIFICATES.c


class CertificateState(StrEnum):
    """What a certificate is good for."""

    VALID = "valid"
    RENEWED = "renewed"  # a newer one of the site is in use
    EXPIRED = "expired"
    REVOKED = "revoked"


class RevocationReason(StrEnum):
    """Why a site's certificates were revoked; a closed list, so that no text can stand in it."""

    KEY_COMPROMISED = "key-compromised"
    SITE_LEFT = "site-left"
    MACHINE_LOST = "machine-lost"
    MISTAKE = "mistake"
    UNSPECIFIED = "unspecified"


_REFUSALS: Final = {
    CertificateState.REVOKED: Reason.CERTIFICATE_REVOKED,
    CertificateState.RENEWED: Reason.CERTIFICATE_RENEWED,
    CertificateState.EXPIRED: Reason.CERTIFICATE_EXPIRED,
}


@dataclass(frozen=True)
class IssuedCertificate:
    """One row of the register; times are seconds since 1970, UTC."""

    number: int
    serial: str
    site: str
    begins: int
    ends: int
    retired: int | None
    revoked: int | None
    reason: str | None

    def state(self, now: dt.datetime) -> CertificateState:
        """Say what it is good for at `now`."""
        if self.revoked is not None:
            return CertificateState.REVOKED
        if self.retired is not None:
            return CertificateState.RENEWED
        expired = now.timestamp() >= self.ends
        return CertificateState.EXPIRED if expired else CertificateState.VALID


def refusal_of(
    row: IssuedCertificate | None, peer: PeerCertificate, now: dt.datetime
) -> PeerRefusedError | None:
    """Return why a certificate gets nobody in, or None when it does.

    Args:
        row: What the register says of its serial; None when it stands there nowhere.
        peer: The certificate as it was shown.
        now: Current time.
    """
    if row is None or row.site != peer.site:
        again = f"coordinator invite {peer.site} --again"
        return PeerRefusedError(
            Reason.CERTIFICATE_UNKNOWN,
            detail=f"certificate {peer.serial} of '{peer.site}' stands in no register here; `{again}`",
        )
    state = row.state(now)
    if state is CertificateState.VALID:
        return None
    return PeerRefusedError(_REFUSALS[state], detail=refused_sentence(row, state))


def refused_sentence(row: IssuedCertificate, state: CertificateState) -> str:
    """Say what ended, when, and which command helps; one line for the operator."""
    ends = {
        CertificateState.REVOKED: row.revoked,
        CertificateState.RENEWED: row.retired,
        CertificateState.EXPIRED: row.ends,
    }[state]
    when = dt.datetime.fromtimestamp(ends or row.ends, dt.UTC)
    again = f"`coordinator invite {row.site} --again`"
    remedy = {
        CertificateState.REVOKED: f"`coordinator reinstate {row.site}` or {again}",
        CertificateState.RENEWED: f"if the site has not renewed, its key is in other hands: "
        f"`coordinator revoke {row.site}`",
        CertificateState.EXPIRED: again,
    }[state]
    word = "was renewed" if state is CertificateState.RENEWED else state.value
    if state is CertificateState.REVOKED:
        word = f"was revoked ({row.reason})"
    return f"the certificate of '{row.site}' {word} on {when:%Y-%m-%d %H:%M} UTC; {remedy}"


class Certificates:
    """The register of client certificates; commands may write it beside a serving process."""

    def __init__(self, database: Database) -> None:
        """Open (and make, if new) the register.

        Raises:
            StoreError: It cannot be opened.
            StoreUnreachableError: Nobody answers.
        """
        self._engine = open_tables(database)
        self._reading = database.open_for_reading()
        self._lock = threading.Lock()  # the serving process reads from two threads

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()
        with self._lock:
            self._reading.dispose()

    def all(self) -> list[IssuedCertificate]:
        """List every certificate, in the order of issue."""
        with self._lock, transaction(self._reading, _UNREADABLE) as connection:
            rows = connection.execute(select(*_COLUMNS).order_by(_C.number)).all()
        return [_issued(row) for row in rows]

    def renew(
        self, peer: PeerCertificate, key_hash: bytes, *, now: dt.datetime, issue: Callable[[], bytes]
    ) -> bytes:
        """Issue the next certificate of a site, or give the one that was issued for this key already.

        Args:
            peer: The certificate that the site asks with; judged here again, in the transaction.
            key_hash: Of the key that the next one is for.
            now: Current time.
            issue: Makes the certificate; called at most once.

        Raises:
            PeerRefusedError: The certificate that it asks with is refused by now, the key is an old one, or
                the site asks without end.
            StoreError: The database refused; nothing was issued.
        """
        with transaction(self._engine, _UNWRITABLE) as connection:
            rows = connection.execute(
                select(*_COLUMNS, _C.key_hash, _C.certificate, _C.issued).where(_C.site == peer.site)
            ).all()
            held = {row.serial: _issued(row) for row in rows}
            # R2.1.8: it was admitted on a reading of a moment ago; a revocation may stand here since.
            refusal = refusal_of(held.get(peer.serial), peer, now)
            if refusal is not None:
                raise refusal
            same = next((row for row in rows if bytes(row.key_hash) == key_hash), None)
            if same is not None:
                # R2.1.7: the answer was lost; a key of an earlier certificate is no new one.
                if same.number <= held[peer.serial].number:
                    raise PeerRefusedError(Reason.BAD_REQUEST, detail="the key was certified before")
                if _issued(same).state(now) is not CertificateState.VALID:
                    raise PeerRefusedError(Reason.BAD_REQUEST, detail="the key's certificate has ended")
                return bytes(same.certificate)
            if sum(row.issued > now.timestamp() - 86_400 for row in rows) >= MOST_RENEWALS_A_DAY:
                raise PeerRefusedError(Reason.TOO_MANY, detail=f"'{peer.site}' renews without end")
            certificate = issue()
            record_certificate(connection, peer.site, certificate, now)
        return certificate

    def retire_older(self, peer: PeerCertificate, now: dt.datetime) -> None:
        """End the site's certificates that are older than this one, which is in use now."""
        with transaction(self._engine, _UNWRITABLE) as connection:
            number = select(_C.number).where(_C.serial == peer.serial).scalar_subquery()
            connection.execute(
                update(CERTIFICATES)
                .where(_C.site == peer.site, _C.number < number, _C.retired.is_(None))
                .values(retired=int(now.timestamp()))
            )

    def revoke(self, site: str, reason: RevocationReason, now: dt.datetime) -> int:
        """Revoke all certificates of a site and its unused invitations; durable when this returns.

        Returns:
            How many certificates that were not revoked before.

        Raises:
            ConfigError: There is no such site (the operator's).
        """
        with transaction(self._engine, _UNWRITABLE) as connection:
            unused = and_(INVITATIONS.c.site == site, INVITATIONS.c.request_hash.is_(None))
            void = connection.execute(delete(INVITATIONS).where(unused)).rowcount
            found = connection.execute(
                update(CERTIFICATES)
                .where(_C.site == site, _C.revoked.is_(None))
                .values(revoked=int(now.timestamp()), reason=reason.value)
            ).rowcount
            if not void and not found:
                self._need_known(connection.execute(_count(_C.site == site)).scalar(), site)
        return found

    def reinstate(self, site: str, now: dt.datetime) -> int:
        """Take a site's last revocation back, and none before it.

        Returns:
            How many certificates are valid again; 0 when the revoked ones have expired or were renewed.

        Raises:
            ConfigError: There is no such site, nothing of it is revoked, or its newest certificate is not:
                the last revocation was taken back, or a new certificate has taken its place (the operator's).
        """
        with transaction(self._engine, _UNWRITABLE) as connection:
            self._need_known(connection.execute(_count(_C.site == site)).scalar(), site)
            newest = select(_C.revoked).where(_C.site == site).order_by(_C.number.desc()).limit(1)
            last = connection.execute(newest).scalar()
            if last is None and connection.execute(_count(_revoked_of(site))).scalar():
                raise ConfigError(
                    f"the newest certificate of '{site}' is not revoked; older ones stay revoked"
                )
            if last is None:
                raise ConfigError(f"no certificate of '{site}' is revoked")
            taken = and_(_C.site == site, _C.revoked == last)
            rows = connection.execute(select(*_COLUMNS).where(taken)).all()
            connection.execute(update(CERTIFICATES).where(taken).values(revoked=None, reason=None))
        good = [_issued(row) for row in rows]
        return sum(item.retired is None and now.timestamp() < item.ends for item in good)

    def event_vkey(self, site: str) -> str | None:
        """Return the event key that the site enrolled last, or None when it never did."""
        with self._lock, transaction(self._reading, _UNREADABLE) as connection:
            row = connection.execute(
                select(INVITATIONS.c.event_vkey)
                .join(CERTIFICATES, _C.certificate == INVITATIONS.c.certificate)
                .where(INVITATIONS.c.site == site)
                .order_by(_C.number.desc())
            ).first()
        return None if row is None else str(row.event_vkey)

    def _need_known(self, count: int | None, site: str) -> None:
        if not count:
            raise ConfigError(f"no certificate was issued to '{site}'; see `coordinator certificates`")


_COLUMNS: Final = (_C.number, _C.serial, _C.site, _C.begins, _C.ends, _C.retired, _C.revoked, _C.reason)


def current(rows: Sequence[IssuedCertificate]) -> dict[str, IssuedCertificate]:
    """Return each site's newest certificate, valid or expired; without those that were revoked."""
    return {row.site: row for row in rows if row.revoked is None and row.retired is None}


def _revoked_of(site: str) -> ColumnElement[bool]:
    return and_(_C.site == site, _C.revoked.is_not(None))


def _count(condition: ColumnElement[bool]) -> Any:
    return select(func.count()).select_from(CERTIFICATES).where(condition)


def _issued(row: Any) -> IssuedCertificate:
    return IssuedCertificate(
        row.number, row.serial, row.site, row.begins, row.ends, row.retired, row.revoked, row.reason
    )

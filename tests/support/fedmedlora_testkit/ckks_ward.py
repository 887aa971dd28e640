"""A ward of the CKKS suite: the same hospitals with keys, ciphertexts and real sums."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fedmedlora_audit.event_data import Data
from fedmedlora_audit.law import Session
from fedmedlora_coordinator.neighbourhoods import party_of
from fedmedlora_testkit.ckks import ckks_overrides, decrypted, encrypted
from fedmedlora_testkit.hospital import Hospital
from fedmedlora_testkit.ward import Ward


class CkksWard(Ward):
    """A ward whose hospitals encrypt, and whose key holders add and decrypt."""

    def __init__(self, root: Path, *, custody: str = "holder", holder: str = "site-a", **more: Any) -> None:
        super().__init__(root, **ckks_overrides(custody, holder), **more)
        self.lies: dict[str, bytes] = {}  # sums that a key holder sends instead of the true one

    def payload(self, hospital: Hospital, step: str, session: Session) -> bytes:
        """What a hospital sends with its event at a step."""
        plain = super().payload(hospital, step, session)
        if step == "upload":
            return encrypted(self.study, self.study.packing().read_bytes(plain))
        if step == "unmask" and self.decrypts(hospital):
            uploads = [(party_of(self.terms, s), self.blobs.read(d)) for s, d in session.u3.items()]
            true = decrypted(self.study, uploads, threshold=self.terms.threshold)
            return self.lies.get(hospital.site, true)
        return plain

    def submit(
        self,
        hospital: Hospital,
        kind: str,
        data: Data,
        round_number: int | None,
        *,
        payload: bytes = b"",
        role: str | None = None,
        refs: Collection[str] = (),
    ) -> tuple[bytes, int] | None:
        """Hand in an event; a key holder's answer at the end is a sum."""
        if kind == "unmask.response" and self.decrypts(hospital):
            role = "decrypted-sum"
        return super().submit(hospital, kind, data, round_number, payload=payload, role=role, refs=refs)

    def decrypts(self, hospital: Hospital) -> bool:
        """Whether a hospital holds the key."""
        return self.terms.custody is not None and self.terms.custody.decrypts(hospital.site)

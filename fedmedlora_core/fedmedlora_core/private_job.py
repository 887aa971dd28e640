"""The digest of what decides a private training: it is charged once, and its noise follows from it.

Two trainings with one digest are the same training and give the same bytes, so repeating one releases nothing
anew; whatever differs in charter, round, base adapter or notes gives another digest, and so another key of
the noise (R4.13.4). Nothing here needs the libraries of training.
"""

from __future__ import annotations

import hashlib

_LABEL = b"fedmedlora/private-job/1\0"


def job_digest(*, charter: str, round_number: int, base: str, notes: bytes) -> bytes:
    """Digest of one round's private training at one site; 32 bytes.

    Args:
        charter: Digest of the study, as `Study.digest` gives it.
        round_number: From 1.
        base: Digest of the adapter that the round starts from.
        notes: The bytes of the site's file of notes.
    """
    digest = hashlib.sha256(_LABEL)
    for field in (charter.encode(), str(round_number).encode(), base.encode(), notes):
        digest.update(len(field).to_bytes(8, "big"))
        digest.update(field)
    return digest.digest()

"""Sums that the holders of a CKKS key decrypt: which one counts, and whether there can be one (R6.16.8).

The coordinator holds no key and adds nothing: it publishes what the holder signed, or what at least T holders
of a shared key signed alike. The law refuses anything else.
"""

from collections import Counter
from collections.abc import Collection

from fedmedlora_audit.law import Session, State
from fedmedlora_coordinator.errors import RoundError


def decrypted_digest(state: State, session: Session) -> str | None:
    """Return the digest of the sum that may be published; None where masks are used.

    Raises:
        RoundError: The holder gave none, or fewer than T holders of a shared key gave the same one.
    """
    custody = state.terms.custody
    if custody is None:
        return None
    if custody.holder is not None:
        if custody.holder not in session.responses:
            raise RoundError("below_threshold", "the holder of the CKKS key gave no sum")
        return session.responses[custody.holder]
    (digest, alike), *_ = Counter(session.responses.values()).most_common(1) or [("", 0)]
    if alike < state.terms.threshold:
        raise RoundError("disagreement", "too few sites decrypted the same sum")
    return digest


def can_decrypt(state: State, sites: Collection[str]) -> bool:
    """Say whether the sum of a session of these sites could be decrypted; always so where masks are used."""
    custody = state.terms.custody
    return custody is None or custody.holder is None or custody.holder in sites


def need_holder(state: State, sites: Collection[str]) -> None:
    """End a round whose sum nobody could decrypt any more.

    Raises:
        RoundError: The one holder of the CKKS key is not among the sites.
    """
    if not can_decrypt(state, sites):
        raise RoundError("below_threshold", "the holder of the CKKS key is gone")

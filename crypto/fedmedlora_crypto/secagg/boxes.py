"""The sealed box in which a dealer sends a holder its two shares (PROTOCOL §6.5, §6.14).

The key of a box comes from the share keys of the two parties and is used for one box in one direction. In
a hybrid suite a fresh secret, wrapped for the holder, goes into the key beside the X25519 secret, and the
wrap goes in front.
"""

from collections.abc import Callable

from fedmedlora_crypto import labels
from fedmedlora_crypto.encoding import encode_fields, encode_index
from fedmedlora_crypto.hybrid import HybridKey, wrap
from fedmedlora_crypto.keys import SEED_BYTES, AgreementKey, Binding, derive_key, pair_info
from fedmedlora_crypto.sealed import open_box, seal
from fedmedlora_crypto.secagg.suites import SUITES

KeyHolder = tuple[int, AgreementKey]
KeyOwner = tuple[int, bytes]


def seal_shares(
    binding: Binding,
    dealer: KeyHolder,
    holder: KeyOwner,
    plaintext: bytes,
    *,
    randomness: Callable[[int], bytes],
) -> bytes:
    """Seal the shares of one holder.

    Args:
        binding: Session, view and suite.
        dealer: Index and share key of the sender.
        holder: Index and public share key of the receiver.
        plaintext: Both shares.
        randomness: Gives that many uniform bytes; used in hybrid suites.
    """
    context = share_box_context(binding, dealer=dealer[0], holder=holder[0])
    secret = wrapped = b""
    if SUITES[binding.suite].hybrid:
        secret = randomness(SEED_BYTES)
        wrapped = wrap(secret, holder[1], _wrap_info(context))
    key = share_box_key(binding, dealer, holder, dealer=dealer[0], secret=secret)
    return wrapped + seal(key, plaintext, context=context)


def open_shares(binding: Binding, holder: KeyHolder, dealer: KeyOwner, box: bytes) -> bytes:
    """Open a box that `dealer` sealed for `holder`.

    Raises:
        SealedBoxError: Altered, or made for another sender, receiver, session or view.
    """
    context = share_box_context(binding, dealer=dealer[0], holder=holder[0])
    wrapped, sealed = box[: (size := SUITES[binding.suite].wrap_bytes)], box[size:]
    secret = b""
    if isinstance(holder[1], HybridKey):
        secret = holder[1].unwrap(wrapped, _wrap_info(context), party=dealer[0])
    key = share_box_key(binding, holder, dealer, dealer=dealer[0], secret=secret)
    return open_box(key, sealed, context=context, party=dealer[0])


def share_box_key(
    binding: Binding, own: KeyHolder, peer: KeyOwner, *, dealer: int, secret: bytes = b""
) -> bytes:
    """Return the key of the one box that `dealer`, one of the two, seals for the other (R6.5.1)."""
    party, key = own
    info = pair_info(labels.SHARE_BOX, binding, (party, key.public), peer) + encode_index(dealer)
    return derive_key(key.exchange(peer[1], party=peer[0]) + secret, info)


def share_box_context(binding: Binding, *, dealer: int, holder: int) -> bytes:
    """Return the associated data of a box: label, session, view, sender, receiver (R6.5.2)."""
    return encode_fields(
        labels.SHARE_BOX, binding.sid, binding.view, encode_index(dealer), encode_index(holder)
    )


def _wrap_info(context: bytes) -> bytes:
    return encode_fields(labels.BOX_WRAP, context)

"""Which packing a blob of a ring vector has, for those who only have its size (PROTOCOL §4.6)."""

from __future__ import annotations

from fedmedlora_core.errors import CodecError
from fedmedlora_core.packing import FRAME_BYTES, Packing


def packing_of_blob(total_bytes: int, *, bits: int) -> Packing:
    """Return the packing whose vectors have a blob of this size; a frame is a chunk of it.

    Args:
        total_bytes: Size of the blob, from a signed event.
        bits: Width of a word on the wire, from the charter.

    Raises:
        CodecError: No vector has such a blob (the sender's fault).
    """
    last, rest = divmod(max(0, total_bytes - 1), FRAME_BYTES)
    words, odd = divmod(rest + 1, bits // 8)
    packing = Packing(bits, last * (FRAME_BYTES // (bits // 8)) + words)
    if odd or packing.total_bytes != total_bytes:
        raise CodecError("the blob is no ring vector")
    return packing

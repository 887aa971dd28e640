"""CKKS beside masks: exact sums of encrypted ring integers (PROTOCOL §6.16).

The library behind it, TenSEAL, is imported when the first key, ciphertext or sum is made, and not before: a
coordinator and a reviewer carry and check ciphertexts without it.
"""

from fedmedlora_crypto.ckks.keys import CONTEXT_BYTES, PublicContext, SecretKey, check_pair, generate
from fedmedlora_crypto.ckks.library import LibraryError
from fedmedlora_crypto.ckks.parameters import (
    CHUNK_VALUES,
    SizePlan,
    SlotTerms,
    ciphertext_count,
    upload_bytes,
)
from fedmedlora_crypto.ckks.stream import ChunkSum, OpenedChunk, add_chunks, chunk_count, chunk_values
from fedmedlora_crypto.ckks.workers import Workers, plan

__all__ = [
    "CHUNK_VALUES",
    "CONTEXT_BYTES",
    "ChunkSum",
    "LibraryError",
    "OpenedChunk",
    "PublicContext",
    "SecretKey",
    "SizePlan",
    "SlotTerms",
    "Workers",
    "add_chunks",
    "check_pair",
    "chunk_count",
    "chunk_values",
    "ciphertext_count",
    "generate",
    "plan",
    "upload_bytes",
]

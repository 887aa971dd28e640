"""From a trained update to the file that is uploaded: clip, encode, mask, pack (PROTOCOL §4, §6.10).

Memory, in vectors of the adapter's size: one. The trained update is encoded where it lies; later the vector
alone is read, masked and written. Everything else is worked on in chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fedmedlora_core.codec import RingVector, clip_update, clipped_permille
from fedmedlora_core.global_step import GlobalStep, weights_of
from fedmedlora_core.packing import Packing
from fedmedlora_core.site_noise import add_site_noise, update_digest
from fedmedlora_core.study import Study
from fedmedlora_crypto.xof import Keystream
from fedmedlora_site.blobs import UploadFile, UploadFolder
from fedmedlora_site.training import TrainingOutcome


class Masker(Protocol):
    """What masks a vector in place, once."""

    def mask(self, vector: RingVector, *, threads: int = 1) -> None:
        """Add this site's masks."""


def encode_update(
    study: Study,
    rule: GlobalStep,
    outcome: TrainingOutcome,
    stream: Keystream,
    *,
    site: str,
    round_number: int,
    base: str,
    noise_key: Callable[[bytes], bytes],
    threads: int = 1,
) -> tuple[RingVector, int]:
    """Clip, weigh and encode a trained update, and add the study's noise to it (PROTOCOL §4, §4.14).

    Args:
        study: The accepted study.
        rule: How its values lie.
        outcome: The trained update, which is spent: it is clipped, and encoded if it has room, where it lies.
        stream: This round's own stream for the stochastic rounding.
        site: This site's id.
        round_number: The round.
        base: Digest of the adapter that the round started from, 64 hex.
        noise_key: Derives the key of this site's noise from a digest of the update; 32 bytes.
        threads: Worker threads; the result does not depend on it.

    Returns:
        (the encoded vector, share of values that the clip changed in thousandths). The share is in the
        vector too, unless the study's releases are constants: then 0 is in its place.

    Raises:
        NonFiniteError: Training diverged; there is nothing to send.
        CoreError: The update does not fit the study.
    """
    clipped, fraction = clip_update(
        outcome.delta,
        clip_value=study.clip_value,
        clip_norm=study.clip_norm,
        out=outcome.delta,
        threads=threads,
    )
    permille = clipped_permille(fraction)
    if not study.releases_constants:
        said = permille
        weights = weights_of(
            study, site, n_notes=outcome.n_notes, loss=outcome.loss, mentions=outcome.mentions
        )
    else:  # R4.13.2, R4.14.1: nothing beside the noisy update follows from the notes
        said = 0
        weights = weights_of(study, site, n_notes=1, loss=0.0, mentions={})
    encoded = rule.encode(
        clipped, weights, said, stream, round_number=round_number, out=outcome.room, threads=threads
    )
    if study.site_noise is not None:  # R4.14.5: before anything of the update leaves this function
        digest = update_digest(encoded, charter=study.digest, round_number=round_number, base=base)
        add_site_noise(study, encoded, Keystream(noise_key(digest)).words, threads=threads)
    return encoded, permille


def mask_and_store(
    packing: Packing, vector: RingVector, masker: Masker, uploads: UploadFolder, *, threads: int = 1
) -> UploadFile:
    """Mask what a session sums and write it out packed, whole and durable (R5.4.4).

    Args:
        packing: Frames of the vector.
        vector: The encoded update, vote or counts; masked in place.
        masker: The session's secrets.
        uploads: Where the file goes.
        threads: Worker threads; the result does not depend on it.

    Raises:
        CryptoError: The masks of this session are spent.
    """
    masker.mask(vector, threads=threads)
    return uploads.store_chunks(packing.frames_of(vector), threads=threads)

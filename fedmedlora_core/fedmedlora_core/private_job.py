"""The digest of what decides a private training: it is charged once, and its noise follows from it.

Two trainings with one digest are the same training and give the same bytes, so repeating one releases nothing
anew; whatever differs in charter, round, base adapter, notes or machine gives another digest, and so another
key of the noise (R4.13.4). The machine is in it because other libraries, or a GPU, round otherwise: under one
key the difference of two updates would be gradients without noise. Nothing here loads the libraries.
"""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata

_LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "opacus", "numpy", "fedmedlora")
_LABEL = b"fedmedlora/private-job/1\0"


def job_digest(*, charter: str, round_number: int, base: str, notes: bytes, machine: str) -> bytes:
    """Digest of one round's private training at one site; 32 bytes.

    Args:
        charter: Digest of the study, as `Study.digest` gives it.
        round_number: From 1.
        base: Digest of the adapter that the round starts from.
        notes: The bytes of the site's file of notes.
        machine: From `machine_of`: what the last bits of the result depend on.
    """
    digest = hashlib.sha256(_LABEL)
    for field in (charter.encode(), str(round_number).encode(), base.encode(), notes, machine.encode()):
        digest.update(len(field).to_bytes(8, "big"))
        digest.update(field)
    return digest.digest()


def machine_of(device: str) -> str:
    """Name what the last bits of a training here depend on: libraries, processor and device.

    Args:
        device: Where the model computes, as the site's settings say it.
    """
    libraries = [f"{name}=={_version(name)}" for name in _LIBRARIES]
    return " ".join([*libraries, platform.machine(), platform.processor(), platform.node(), device])


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"

"""The CKKS key of a study at this site: made here, imported, or only its public half (PROTOCOL §6.16).

A key pair is made before there is a study, at the site that is to hold the key: the public context goes into
the study package, and its digest into the charter. The secret key is a file of its owner in `keys/`; in a
study whose members all hold it, they receive it by a route of their own, never through the coordinator.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.packing import Frame
from fedmedlora_core.study import Study
from fedmedlora_crypto.ckks import (
    CONTEXT_BYTES,
    PublicContext,
    SecretKey,
    SizePlan,
    SlotTerms,
    check_pair,
    generate,
    plan,
)
from fedmedlora_crypto.ckks.library import library
from fedmedlora_crypto.errors import CryptoError
from fedmedlora_site.durable import create_private, make_folder, write_atomic
from fedmedlora_site.errors import AcceptanceError, FolderError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.keystore import read_private

_PUBLIC_MODE = 0o644


@dataclass(frozen=True, repr=False)
class Custody:
    """What this site holds of the study's CKKS key; silent about it.

    Attributes:
        context: The public context that the charter names.
        secret: The secret key, at a site that may decrypt.
        terms: How ring integers stand in slots.
    """

    context: PublicContext
    secret: SecretKey | None
    terms: SlotTerms

    def __repr__(self) -> str:
        """Say whether there is a key and nothing else."""
        return f"Custody(decrypts={self.secret is not None})"

    @classmethod
    def load(cls, folder: SiteFolder, study: Study, terms: CharterTerms, site: str) -> Custody | None:
        """Read what the accepted study needs; None where it is not of mode "ckks".

        Raises:
            FolderError: The context or the key is missing, damaged, or another one than the charter's.
        """
        if terms.custody is None:
            return None
        context = _context(folder.ckks_context, terms.custody.context)
        slots = slot_terms(study)
        if not terms.custody.decrypts(site):
            return cls(context, None, slots)
        if not folder.ckks_secret.is_file():
            raise FolderError(f"{folder.ckks_secret}: is missing; make or get it with `site ckks-import`")
        try:
            secret = SecretKey.decode(read_private(folder.ckks_secret))
            check_pair(context, secret)
        except CryptoError as exc:
            raise FolderError(f"{folder.ckks_secret}: {exc}") from None
        return cls(context, secret, slots)


def make_key(root: Path, out: Path, *, shared_key_out: Path | None = None) -> str:
    """Make a key pair at this site; returns the digest of the public context.

    Args:
        root: The site's folder; the secret key goes into its `keys/`, mode 0600.
        out: Where to write the public context, for `study new`.
        shared_key_out: Where to write the secret key as well, for a study whose members all hold it.

    Raises:
        ConfigError: There is a key already, or a target exists.
        LibraryError: TenSEAL is not installed.
    """
    folder = SiteFolder.open(root)
    for target in (folder.ckks_secret, out, shared_key_out):
        if target is not None and target.exists():
            raise ConfigError(f"{target}: exists already; a key is never overwritten")
    context, secret = generate()
    make_folder(folder.keys)
    create_private(folder.ckks_secret, secret.encode())
    write_atomic(out, context.encode(), mode=_PUBLIC_MODE)
    if shared_key_out is not None:
        create_private(shared_key_out, secret.encode())
    return context.digest


def import_key(root: Path, key: Path, *, context: Path | None = None) -> str:
    """Take in the secret key of a study whose members all hold it (R6.16.7).

    Args:
        root: The site's folder.
        key: The file that `site ckks-key --shared-key-out` wrote, received by another route.
        context: The public context; that of the accepted study when None.

    Returns:
        The digest of the public context that the key belongs to.

    Raises:
        ConfigError: There is another key already, or the file is no key.
        FolderError: The key does not fit the context.
    """
    folder = SiteFolder.open(root)
    source = context or folder.ckks_context
    if not source.is_file():
        raise ConfigError(f"{source}: accept the study first, or name its context with --context")
    public = read_context(source)
    try:
        secret = SecretKey.decode(read_private(key))
        check_pair(public, secret)
    except CryptoError as exc:
        raise FolderError(f"{key}: {exc}") from None
    if folder.ckks_secret.exists():
        if hmac.compare_digest(read_private(folder.ckks_secret), secret.encode()):
            return public.digest
        raise ConfigError(f"{folder.ckks_secret}: holds another key; a key is never overwritten")
    make_folder(folder.keys)
    create_private(folder.ckks_secret, secret.encode())
    return public.digest


def read_context(path: Path) -> PublicContext:
    """Read a public context file.

    Raises:
        ConfigError: There is none, or it is not one.
    """
    try:
        if path.stat().st_size != CONTEXT_BYTES:
            raise ConfigError(f"{path}: is not a public CKKS context of this release")
        return PublicContext.decode(path.read_bytes())
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror})") from None
    except CryptoError as exc:
        raise ConfigError(f"{path}: {exc}") from None


def check_context(study: Study, path: Path) -> None:
    """Compare the context in a study package with the charter (R6.16.7).

    Raises:
        AcceptanceError: It is missing, another one, or leaves no room for exact sums.
    """
    ckks = study.secure_aggregation.ckks
    if ckks is None:
        return
    try:
        found = read_context(path)
        slot_terms(study)
    except (ConfigError, CryptoError) as exc:
        raise AcceptanceError(str(exc)) from None
    if found.digest != ckks.context:
        raise AcceptanceError(f"{path}: is not the CKKS context that the study names")


def need_library(study: Study) -> None:
    """A site of a CKKS study needs TenSEAL; better to hear it before the charter is recorded.

    Raises:
        AcceptanceError: It is not installed.
    """
    if study.secure_aggregation.ckks is not None:
        try:
            library()
        except CryptoError as exc:
            raise AcceptanceError(str(exc)) from None


def slot_terms(study: Study) -> SlotTerms:
    """Return how this study's ring integers stand in slots.

    Raises:
        TermsError: The noise of a sum could reach half a quantum.
    """
    return SlotTerms(study.codec().ring_bits, len(study.members))


def ring_values(study: Study, round_number: int) -> int:
    """Integers in a round's encoded update and sum: the values, the weight, the clipped share."""
    return study.packing(round_number).count


def encode_sum(study: Study, round_number: int, total: NDArray[np.uint32]) -> Iterator[Frame]:
    """Yield a decrypted sum as it is published: the frames that a masked study would publish (R6.16.8)."""
    return study.packing(round_number).frames_of(total)


def size_plan(study: Study, *, measured: bool = False) -> SizePlan | None:
    """Return what a round of a CKKS study costs; None for other modes.

    Args:
        study: The study.
        measured: Also try a few ciphertexts on this machine, for seconds; needs the library.
    """
    if study.secure_aggregation.ckks is None:
        return None
    values = max(packing.count for packing in study.packings())
    sites = len(study.members)
    if not measured:
        return SizePlan(values, sites)
    return plan(values, sites, ring_bits=study.codec().ring_bits, clock=time.perf_counter)


def _context(path: Path, digest: str) -> PublicContext:
    try:
        context = read_context(path)
    except ConfigError as exc:
        raise FolderError(str(exc)) from None
    if context.digest != digest:
        raise FolderError(f"{path}: is not the CKKS context that the charter names")
    return context

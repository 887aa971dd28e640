"""The global adapter, computed here: a site believes none that it did not derive itself (PROTOCOL §4.4).

The study package holds the initial adapter. Every closed round published an integer sum; each site decodes
it, applies the server's step and compares digests with the log. A site that was away fetches the sums it
missed. A damaged folder costs nothing but the computation: everything is derived again from the start.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.aggregate_bounds import check_aggregate
from fedmedlora_core.aggregation import server_step
from fedmedlora_core.codec import CLIPPED_PERMILLE_MAX, EXTRAS, FloatVector
from fedmedlora_core.errors import CoreError
from fedmedlora_core.packing import Frame
from fedmedlora_core.study import Study
from fedmedlora_site.durable import make_folder, sync_folder
from fedmedlora_site.errors import FolderError, StepRefusal

KEPT_FOLDERS = 3
_STEP = "aggregate"
_DIGEST_FILE = "digest"


@dataclass(frozen=True)
class NextBase:
    """A checked aggregate and the adapter it leads to.

    Attributes:
        adapter: The next base.
        vector: Its trainable values, which the adapter's tensors are views of.
        delta_digest: Digest of the averaged update.
        digest: Digest of the next base.
        weight_sum: Sum of the sites' weights.
        clipped_permille: Mean over the sites of the share of values that the clip changed, in thousandths.
    """

    adapter: Adapter
    vector: FloatVector
    delta_digest: str
    digest: str
    weight_sum: int
    clipped_permille: float


class Bases:
    """The adapters of one run, one folder per closed round; the newest `KEPT_FOLDERS` stay on the disk.

    Args:
        study: The accepted study.
        initial: Folder of its initial adapter.
        root: Where derived adapters are kept.

    Raises:
        FolderError: The initial adapter is not the one the charter names.
    """

    def __init__(self, study: Study, initial: Path, root: Path) -> None:
        """Find the adapters of earlier runs; a damaged one counts as missing and is derived again."""
        self._study = study
        self._root = make_folder(root)
        for torn in root.glob(".*.tmp"):
            shutil.rmtree(torn, ignore_errors=True)
        try:
            adapter = Adapter.load(initial)
        except CoreError as exc:
            raise FolderError(str(exc)) from None
        if adapter.digest != study.adapter.initial_digest:
            raise FolderError(f"{initial}: is not the initial adapter that the charter names")
        if adapter.dimension != study.adapter.dimension:
            raise FolderError(f"{initial}: has {adapter.dimension} trainable values, not the charter's")
        self._layout = adapter.layout_digest
        self._known: dict[str, Path] = {adapter.digest: initial}
        self._loaded: tuple[str, Adapter] = (adapter.digest, adapter)
        for folder in sorted(root.glob("base-*")):
            self._take(folder)

    def _take(self, folder: Path) -> None:
        """Use a folder of an earlier run if its content is what its own record says."""
        try:
            adapter = Adapter.load(folder)
            recorded = (folder / _DIGEST_FILE).read_text()
        except (CoreError, OSError):
            return
        if adapter.layout_digest == self._layout and adapter.digest == recorded:
            self._known[recorded] = folder

    def holds(self, digest: str) -> bool:
        """Whether the adapter of a digest was computed here."""
        return digest in self._known

    def folder(self, digest: str) -> Path:
        """Folder of an adapter that `holds`."""
        return self._known[digest]

    def adapter(self, digest: str) -> Adapter:
        """Load an adapter that `holds`; its digest is checked again.

        Raises:
            FolderError: It was damaged on the disk since.
        """
        if self._loaded[0] != digest:
            try:
                adapter = Adapter.load(self._known[digest])
            except CoreError as exc:
                raise FolderError(str(exc)) from None
            if adapter.digest != digest:
                raise FolderError(f"{self._known[digest]}: was changed on disk; remove it and run again")
            self._loaded = (digest, adapter)
        return self._loaded[1]

    def ring_bytes(self) -> int:
        """Length of a ring-sum blob of this study."""
        return self._study.packing().total_bytes

    def derive(self, base: str, ring_sum: Frame, *, sites: int) -> NextBase:
        """Decode a published sum, check its bounds, and apply the server's step (PROTOCOL §4.4).

        Args:
            base: Digest of the adapter the round started from; `holds` it.
            ring_sum: The ring-sum blob.
            sites: Number m of sites in the sum.

        Raises:
            StepRefusal: The sum cannot be one of m honest encodings (reason "bad_aggregate").
        """
        average, weight_sum, clipped = self._decode(ring_sum, sites)
        old = self.adapter(base)
        delta_digest = old.digest_of(average)
        rate = self._study.server_learning_rate
        for first, last, values in old.segments():  # in place: one vector from the sum to the next base
            server_step(values, average[first:last], learning_rate=rate, out=average[first:last])
        try:
            adapter = old.with_vector(average)
        except CoreError as exc:
            raise StepRefusal(_STEP, "bad_aggregate", str(exc)) from None
        return NextBase(adapter, average, delta_digest, adapter.digest, weight_sum, clipped / sites)

    def _decode(self, ring_sum: Frame, sites: int) -> tuple[FloatVector, int, int]:
        """Decode a sum in one vector; returns (average, weight sum, sum of the clipped shares)."""
        codec = self._study.codec()
        try:
            total = self._study.packing().read_bytes(ring_sum)
            average, weight_sum, (clipped,) = codec.decode(
                total, extras=EXTRAS, out=total[: -1 - EXTRAS].view(np.float32)
            )
        except CoreError as exc:
            raise StepRefusal(_STEP, "bad_aggregate", f"the published sum does not decode: {exc}") from None
        if clipped > sites * CLIPPED_PERMILLE_MAX:  # R4.5.6: what m honest sites cannot have sent
            raise StepRefusal(_STEP, "bad_aggregate", f"the clipped shares do not fit {sites} sites")
        try:
            check_aggregate(average, weight_sum, codec=codec, clip_norm=self._study.clip_norm, m=sites)
        except CoreError as exc:
            raise StepRefusal(_STEP, "bad_aggregate", str(exc)) from None
        return average, weight_sum, clipped

    def keep(self, found: NextBase, *, round_number: int) -> Path:
        """Save the adapter after a round, whole or not at all; returns its folder."""
        target = self._root / f"base-{round_number:05d}-{found.digest[:16]}"
        if not target.is_dir():
            temporary = self._root / f".{target.name}.tmp"
            found.adapter.save(temporary)
            (temporary / _DIGEST_FILE).write_text(found.digest)
            temporary.rename(target)
            sync_folder(self._root)
        self._known[found.digest] = target
        self._loaded = (found.digest, found.adapter)
        self._prune()
        return target

    def forget(self, digest: str) -> None:
        """Drop the adapter of a round that was not taken (R4.7.7); later ones must not push out a base."""
        folder = self._known.get(digest)
        if folder is not None and folder.parent == self._root:
            del self._known[digest]
            shutil.rmtree(folder, ignore_errors=True)

    def _prune(self) -> None:
        """Delete the folders of rounds long closed; no adapter is derived from them any more."""
        for old in sorted(self._root.glob("base-*"))[:-KEPT_FOLDERS]:
            self._known = {digest: path for digest, path in self._known.items() if path != old}
            shutil.rmtree(old, ignore_errors=True)

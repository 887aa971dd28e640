"""The global adapter, computed here: a site believes none that it did not derive itself (PROTOCOL §4.4).

The study package holds the initial adapter. Every closed round published an integer sum; each site decodes
it, applies the server's step and compares digests with the log. A site that was away fetches the sums it
missed. A damaged folder costs nothing but the computation: everything is derived again from the start.

With an optimiser of the server its state lies beside the adapter that it goes with, and is derived with it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.codec import FloatVector
from fedmedlora_core.errors import CoreError
from fedmedlora_core.global_step import GlobalStep
from fedmedlora_core.packing import Frame
from fedmedlora_core.server_optimiser import OptimiserState
from fedmedlora_core.study import Study
from fedmedlora_site.durable import make_folder, sync_folder
from fedmedlora_site.errors import FolderError, StepRefusal

KEPT_FOLDERS = 3
_STEP = "aggregate"
_DIGEST_FILE = "digest"
_STATE_FILE = "optimiser.digest"


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
        state: State of the server's optimiser that goes with the next base; None without one.
        state_before: Digest of the state that it was computed from; None without one.
    """

    adapter: Adapter
    vector: FloatVector
    delta_digest: str
    digest: str
    weight_sum: int
    clipped_permille: float
    state: OptimiserState | None = None
    state_before: str | None = None

    @property
    def state_digest(self) -> str | None:
        """Digest of the optimiser's state that goes with the next base, if there is one."""
        return None if self.state is None else self.state.digest


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
        self._layout = adapter.layout_digest
        self._known: dict[str, Path] = {adapter.digest: initial}
        self._loaded: tuple[str, Adapter] = (adapter.digest, adapter)
        try:
            self.rule = GlobalStep(study, adapter)
        except CoreError as exc:
            raise FolderError(f"{initial}: {exc}") from None
        self._initial = initial
        self._state: tuple[str, OptimiserState | None] = (adapter.digest, self.rule.initial_state())
        for folder in sorted(root.glob("base-*")):
            self._take(folder)

    def _take(self, folder: Path) -> None:
        """Use a folder of an earlier run if its content is what its own record says."""
        try:
            adapter = Adapter.load(folder)
            recorded = (folder / _DIGEST_FILE).read_text()
            state = self._read_state(folder)
            fits = state is None or (folder / _STATE_FILE).read_text() == state.digest
        except (CoreError, OSError):
            return
        if fits and adapter.layout_digest == self._layout and adapter.digest == recorded:
            self._known[recorded] = folder

    def holds(self, digest: str) -> bool:
        """Whether the adapter of a digest was computed here."""
        return digest in self._known

    def holds_after(self, digest: str, state: str | None) -> bool:
        """Whether a closed round's adapter was computed here, and the optimiser's state that it led to.

        An average of nothing leaves the adapter as it was, while the state moves on: the adapter's digest
        alone does not tell that the round was computed.

        Args:
            digest: Of the adapter.
            state: Digest of the state of the server's optimiser; None without one.
        """
        folder = self._known.get(digest)
        if folder is None or state is None:
            return folder is not None
        if folder == self._initial:
            initial = self.rule.initial_state()
            return initial is not None and initial.digest == state
        try:
            return (folder / _STATE_FILE).read_text() == state
        except OSError:
            return False

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

    def state(self, digest: str) -> OptimiserState | None:
        """The state of the server's optimiser that goes with an adapter that `holds`; None without one.

        Raises:
            FolderError: It was damaged on the disk since.
        """
        folder = self._known[digest]
        if self._study.aggregation.server is None or folder == self._initial:
            return self.rule.initial_state()
        if self._state[0] != digest:
            try:
                state = self._read_state(folder)
                if state is None or state.digest != (folder / _STATE_FILE).read_text():
                    raise FolderError(f"{folder}: was changed on disk; remove it and run again")
            except (CoreError, OSError) as exc:
                raise FolderError(str(exc)) from None
            self._state = (digest, state)
        return self._state[1]

    def _read_state(self, folder: Path) -> OptimiserState | None:
        """Read the state in a folder; None where the study has no optimiser."""
        server = self._study.aggregation.server
        return None if server is None else OptimiserState.load(folder, server, self._study.adapter.dimension)

    def ring_bytes(self, round_number: int) -> int:
        """Length of a round's ring-sum blob."""
        return self._study.packing(round_number).total_bytes

    def derive(self, base: str, ring_sum: Frame, *, round_number: int, sites: int) -> NextBase:
        """Decode a published sum, check its bounds, and apply the server's step (PROTOCOL §4.4).

        Args:
            base: Digest of the adapter the round started from; `holds` it.
            ring_sum: The ring-sum blob.
            round_number: The round that it is the sum of.
            sites: Number m of sites in the sum.

        Raises:
            StepRefusal: The sum cannot be one of m honest encodings (reason "bad_aggregate").
        """
        old, state = self.adapter(base), self.state(base)
        before = None if state is None else state.digest
        try:
            total = self.rule.packing(round_number).read_bytes(ring_sum)
            found = self.rule.advance(
                old.segments(), state, total, round_number=round_number, m=sites
            )  # in place: one vector from the sum to the next base
            adapter = old.with_vector(found.vector)
        except CoreError as exc:
            raise StepRefusal(_STEP, "bad_aggregate", str(exc)) from None
        return NextBase(
            adapter,
            found.vector,
            found.delta,
            adapter.digest,
            found.weight_sum,
            found.clipped_permille,
            found.state,
            before,
        )

    def keep(self, found: NextBase, *, round_number: int) -> Path:
        """Save the adapter after a round, whole or not at all; returns its folder."""
        target = self._root / f"base-{round_number:05d}-{found.digest[:16]}"
        if self._known.get(found.digest) != target:  # a folder that is there and not known is damaged
            shutil.rmtree(target, ignore_errors=True)
            temporary = self._root / f".{target.name}.tmp"
            found.adapter.save(temporary)
            if found.state is not None:
                found.state.save(temporary)
                (temporary / _STATE_FILE).write_text(found.state.digest)
            (temporary / _DIGEST_FILE).write_text(found.digest)
            temporary.rename(target)
            sync_folder(self._root)
        self._known[found.digest] = target
        self._loaded = (found.digest, found.adapter)
        self._state = (found.digest, found.state)
        self._prune()
        return target

    def forget(self, digest: str) -> None:
        """Drop the adapter of a round that was not taken (R4.7.7); later ones must not push out a base."""
        folder = self._known.get(digest)
        if folder is not None and folder.parent == self._root:
            del self._known[digest]
            shutil.rmtree(folder, ignore_errors=True)

    def _prune(self) -> None:
        """Delete the folders of rounds long closed; no adapter is derived from them any more.

        Damaged ones go first, or they would push out what is derived again in their place (R4.9.5).
        """
        known = set(self._known.values())
        by_worth = sorted(self._root.glob("base-*"), key=lambda folder: (folder in known, folder.name))
        for old in by_worth[:-KEPT_FOLDERS]:
            self._known = {digest: path for digest, path in self._known.items() if path != old}
            shutil.rmtree(old, ignore_errors=True)

"""What a coordinator can read of its own blobs: sealed ones opened with its storage key."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.setup import load_storage_key


def stored_blobs(coordinator: Path) -> dict[str, bytes]:
    """Every complete blob of a coordinator's folder, by digest."""
    folder = Folder(coordinator)
    store = BlobStore(folder.blobs, storage_key=load_storage_key(folder))
    found = {path.stem for suffix in ("blob", "sealed") for path in folder.blobs.glob(f"??/*.{suffix}")}
    return {digest: store.read(digest) for digest in sorted(found)}

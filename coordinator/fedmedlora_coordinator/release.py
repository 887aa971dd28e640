"""The released adapter: a PEFT folder that any tool loads, in place whole or not at all (PROTOCOL §5.4)."""

import json
import os
import secrets
import shutil
from pathlib import Path

from fedmedlora_coordinator.folder import sync_folder
from fedmedlora_core.adapter import Adapter

RELEASE_FILE = "release.json"


def write_release(folder: Path, adapter: Adapter, *, study_id: str, charter: str, rounds: int) -> None:
    """Write the adapter with a note of where it comes from; an earlier release of it is replaced.

    Args:
        folder: The folder to make.
        adapter: The global adapter.
        study_id: Id of the study.
        charter: Digest of the charter.
        rounds: Closed rounds behind it.
    """
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        adapter.save(staging)
        facts = {"study": study_id, "charter": charter, "rounds": rounds, "digest": adapter.digest}
        (staging / RELEASE_FILE).write_text(json.dumps(facts, indent=2) + "\n")
        for path in staging.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(staging)
        if folder.exists():
            shutil.rmtree(folder)  # the same adapter, written before a kill
        staging.replace(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)

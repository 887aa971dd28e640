"""The released adapter: a PEFT folder that any tool loads, in place whole or not at all (PROTOCOL §5.4)."""

import json
import os
import secrets
import shutil
from pathlib import Path

from fedmedlora_coordinator.folder import sync_folder
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.study import CHARTER_FILE, Study

RELEASE_FILE = "release.json"


def write_release(
    folder: Path, adapter: Adapter, study: Study, *, rounds: int, chosen: int | None = None
) -> None:
    """Write the adapter with its charter and where it comes from; an earlier release of it is replaced.

    Args:
        folder: The folder to make.
        adapter: The global adapter.
        study: The study; its canonical JSON lies beside the weights, for whoever uses them.
        rounds: Closed rounds of the study.
        chosen: The round whose adapter it is, if summed validation counts chose one; None for the last.
    """
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        adapter.save(staging)
        (staging / CHARTER_FILE).write_bytes(study.canonical_json())
        facts = {
            "study": study.study.id,
            "charter": study.digest,
            "rounds": rounds,
            **({} if chosen is None else {"round": chosen}),
            "digest": adapter.digest,
        }
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

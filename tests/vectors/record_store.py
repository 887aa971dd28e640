"""Records a coordinator's folder as an earlier release leaves it, to see that later releases open it.

Run with the code of that release on the path (its `git archive`), once; the result is committed:

    PYTHONPATH=OLD/coordinator:…:OLD/tests/support python tests/vectors/record_store.py OUT

It holds what the log needs: store, head, settings, card, study, public keys' seeds. They are keys of a test
and of nothing else.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from fedmedlora_testkit.ward import Ward

KEPT = ("store.sqlite", "enrolment.sqlite", "head", "coordinator.toml", "card.toml", "keys", "study")


def record(out: Path) -> None:
    """Play a study in one process until its first round is closed, and keep the folder."""
    with tempfile.TemporaryDirectory() as scratch:
        ward = Ward(Path(scratch))
        ward.run(lambda state: any(found.outcome == "closed" for found in state.rounds.values()))
        ward.store.close()
        out.mkdir(parents=True)
        for name in KEPT:
            path = ward.folder.root / name
            if path.is_dir():
                shutil.copytree(path, out / name)
            elif path.is_file():
                shutil.copy2(path, out / name)


if __name__ == "__main__":
    record(Path(sys.argv[1]))

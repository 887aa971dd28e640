"""The adapter that a site uses under mode "sa": the study's A with the site's own B (PROTOCOL §4.11)."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_core.adapter_parts import with_personal
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.study import CHARTER_FILE
from fedmedlora_site.errors import FolderError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.holdings import FolderLock, Holdings
from fedmedlora_site.personal import last_closed, load_start


def export_personal(root: Path, out: Path) -> int:
    """Write the adapter that this site uses as a PEFT folder, in the clear, with the charter beside it.

    No agent may be at work: opening a folder drops torn lines and half-written adapters.

    Args:
        root: The site's folder.
        out: Folder to make.

    Returns:
        The round that the site's own part is from.

    Raises:
        ConfigError: The study leaves nothing to a site, or the folder is there already.
        FolderError: There is nothing yet, it was changed on disk, or an agent is running.
    """
    lock = FolderLock(SiteFolder.open(root).lock)
    try:
        return _export(Holdings.open(root), out)
    finally:
        lock.release()


def _export(held: Holdings, out: Path) -> int:
    """Write the adapter of an opened folder; returns the round of the site's own part."""
    if held.study.adapter.mode != "sa":
        raise ConfigError("the study shares its whole adapter: only mode 'sa' leaves a part to each site")
    if out.exists():
        raise ConfigError(f"{out}: exists already; choose a new folder")
    state = held.mirror.state
    number = last_closed(held.personal, state)
    personal = load_start(held.personal, number)
    if personal is None:
        raise FolderError(f"{held.folder.personal}: no round that this site trained in is closed yet")
    if not held.bases.holds(state.base):
        raise FolderError(f"{held.folder.adapters}: the last adapter is missing; let the site catch up")
    with_personal(held.bases.adapter(state.base), personal).save(out)
    (out / CHARTER_FILE).write_bytes(held.study.canonical_json())  # `extract` and `evaluate` read it there
    return number

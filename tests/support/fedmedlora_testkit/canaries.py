"""Searching a demo's folder for the canaries of its hospitals."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_audit.canary import Canaries, Report, scan_folder
from fedmedlora_cli.demo.clinic import CANARIES_FILE
from fedmedlora_testkit.stored import stored_blobs


def hospitals_of(out: Path) -> list[Path]:
    """The hospitals' own folders in a demo's folder."""
    return sorted(path.parent for path in out.glob("*/site.toml"))


def search(out: Path) -> Report:
    """Search everything of a demo but the hospitals' own folders for all their canaries."""
    hospitals = hospitals_of(out)
    return scan_folder(out, Canaries.load([s / "source" / CANARIES_FILE for s in hospitals]), skip=hospitals)


def open_blobs(coordinator: Path, target: Path) -> None:
    """Write a coordinator's payloads as the sites sent them: sealed, a search would see nothing in them."""
    target.mkdir()
    for digest, data in stored_blobs(coordinator).items():
        (target / digest).write_bytes(data)

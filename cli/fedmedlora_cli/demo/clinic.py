"""The demo's hospitals: synthetic notes, one source folder for each."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_core.clinic import generate
from fedmedlora_core.records import write_notes


def write_clinic(out: Path, options: DemoOptions) -> dict[str, Path]:
    """Generate every hospital's notes and write them where its import command reads them.

    Args:
        out: The demo's folder.
        options: Seed, sites and size.

    Returns:
        Site id to the written file.
    """
    hospitals = generate(len(options.site_ids), seed=options.seed)
    written = {}
    for site_id, notes in zip(options.site_ids, hospitals.values(), strict=True):
        source = out / site_id / "source" / "notes.jsonl"
        source.parent.mkdir(parents=True, exist_ok=True)
        write_notes(source, notes)
        written[site_id] = source
    return written

"""The demo's hospitals: synthetic notes with a few canary patients, one source folder for each."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_core.clinic import canaries_of, canaries_to_json, generate, load_hospital
from fedmedlora_core.records import write_notes

CANARIES_FILE = "canaries.json"


def write_clinic(out: Path, options: DemoOptions) -> dict[str, Path]:
    """Generate every hospital's notes and write them where its import command reads them.

    Each hospital's canary patients stand at the end of its notes; their marks lie beside the notes, in the
    hospital's own folder, for `fedmedlora audit scan` (AUDIT "Canaries").

    Args:
        out: The demo's folder.
        options: Seed, sites and size.

    Returns:
        Site id to the written file.
    """
    hospitals = generate(len(options.site_ids), seed=options.seed)
    written = {}
    for site_id, (hospital, notes) in zip(options.site_ids, hospitals.items(), strict=True):
        canaries = canaries_of(site_id, seed=options.seed)
        annotated = load_hospital(hospital).annotated
        source = out / site_id / "source" / "notes.jsonl"
        source.parent.mkdir(parents=True, exist_ok=True)
        write_notes(source, [*notes, *(canary.note(annotated) for canary in canaries)])
        (source.parent / CANARIES_FILE).write_text(canaries_to_json(canaries), encoding="utf-8")
        written[site_id] = source
    return written

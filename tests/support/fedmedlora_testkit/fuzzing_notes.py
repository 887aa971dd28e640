"""Readers of notes as decoders for `fuzzing`: one damaged file among whole ones, read as imports do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from fedmedlora_core.records import validate_note
from fedmedlora_core.sources import read_source
from fedmedlora_testkit.note_formats import FORMATS, MAPPING, Files, write

Case = tuple[Callable[[], Sequence[bytes]], Callable[[bytes], object]]


def _seeds(make: Callable[[], Files], name: str) -> list[bytes]:
    return [make()[name]]


def _read(format: str, make: Callable[[], Files], name: str, data: bytes) -> None:
    """Read the sample with one file replaced; what comes out keeps the rules of notes."""
    with tempfile.TemporaryDirectory() as folder:
        source = write(Path(folder), make() | {name: data})
        for note in read_source(source, format, mapping=MAPPING).notes:
            validate_note(note)


def _label(sample: str, file: str) -> str:
    """`notes-brat-ann` for the `.ann` file of the BRAT sample."""
    return f"notes-{sample}-{file.rsplit('.', 1)[1].lower()}"


NOTE_DECODERS: dict[str, Case] = {
    _label(sample, file): (partial(_seeds, make, file), partial(_read, format, make, file))
    for sample, (format, make) in FORMATS.items()
    for file in sorted(make())
}
"""One decoder for each kind of file of each format."""

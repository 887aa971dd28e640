"""The open corpora as four hospitals with different schemas.

| site | what it differs in |
|---|---|
| mtsamples | the schema of the study: entities and modifiers |
| maccrobat | another ontology, mapped |
| phee | sentences of pharmacovigilance: no tests, no severity |
| chia | eligibility criteria: another genre, no route, no severity |

`bc5cdr`, where it is there, stays outside: abstracts that nobody trains on, without those that PHEE has too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fedmedlora_bench.cohorts import Cohort
from fedmedlora_core.brat import read_brat
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.mapping import load_mapping
from fedmedlora_core.near_duplicates import mark_near_duplicates
from fedmedlora_core.pubtator import read_pubtator
from fedmedlora_core.records import Note

__all__ = ["CORPORA", "EXTERNAL", "EXTERNAL_ID", "check_corpora", "corpora_cohort"]

CORPORA = {
    "mtsamples": ("mtsamples", "mtsamples"),
    "maccrobat": ("maccrobat2020", "maccrobat2020"),
    "phee": ("phee", "phee"),
    "chia": ("chia", "chia"),
}
"""Site id to its folder and its shipped label mapping."""

EXTERNAL = Path("bc5cdr") / "CDR_TestSet.PubTator.txt"
"""External test set, for entities only."""
EXTERNAL_ID = "bc5cdr"


def check_corpora(data: Path) -> None:
    """Refuse a folder in which a corpus is missing.

    Raises:
        ConfigError: One line says which folders are needed (the operator's).
    """
    missing = [folder for folder, _ in CORPORA.values() if not (data / folder).is_dir()]
    if missing:
        raise ConfigError(
            f"{data}: expected the corpora {', '.join(folder for folder, _ in CORPORA.values())}"
            f" (missing: {', '.join(missing)})"
        )


def corpora_cohort(data: Path, *, on_site: Callable[[str], None] | None = None) -> Cohort:
    """Read the four corpora.

    Args:
        data: Folder that holds one folder for each corpus.
        on_site: Called with each site's id before it is read.

    Raises:
        ConfigError: A corpus is missing; one line says which folders are needed (the operator's).
        DataError: A file of a corpus is malformed.
    """
    check_corpora(data)
    sites: dict[str, Sequence[Note]] = {}
    for site, (folder, mapping) in CORPORA.items():
        if on_site is not None:
            on_site(site)
        sites[site], _ = mark_near_duplicates(read_brat(data / folder, mapping=load_mapping(mapping)).notes)
    test = data / EXTERNAL
    outside = {EXTERNAL_ID: _external(test, sites["phee"])} if test.is_file() else {}
    return Cohort("corpora", sites, outside)


def _external(path: Path, phee: Sequence[Note]) -> list[Note]:
    """Read the external test set without the abstracts whose PubMed ids stand in PHEE's file names."""
    known = {note.patient_id for note in phee}
    notes = read_pubtator(path, mapping=load_mapping("bc5cdr")).notes
    return [note for note in notes if note.document_id not in known]

"""The open corpora as four hospitals with different schemas.

| site | what it differs in |
|---|---|
| mtsamples | the schema of the study: entities and modifiers |
| maccrobat | another ontology, mapped |
| phee | sentences of pharmacovigilance: no tests, no severity |
| chia | eligibility criteria: another genre, no route, no severity |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedmedlora_bench.cohorts import Cohort
from fedmedlora_core.brat import read_brat
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.mapping import load_mapping

__all__ = ["CORPORA", "corpora_cohort"]

CORPORA = {
    "mtsamples": ("mtsamples", "mtsamples"),
    "maccrobat": ("maccrobat2020", "maccrobat2020"),
    "phee": ("phee", "phee"),
    "chia": ("chia", "chia"),
}
"""Site id to its folder and its shipped label mapping."""


def corpora_cohort(data: Path, *, on_site: Callable[[str], None] | None = None) -> Cohort:
    """Read the four corpora.

    Args:
        data: Folder that holds one folder for each corpus.
        on_site: Called with each site's id before it is read.

    Raises:
        ConfigError: A corpus is missing; one line says which folders are needed (the operator's).
        DataError: A file of a corpus is malformed.
    """
    missing = [folder for folder, _ in CORPORA.values() if not (data / folder).is_dir()]
    if missing:
        raise ConfigError(
            f"{data}: expected the corpora {', '.join(folder for folder, _ in CORPORA.values())}"
            f" (missing: {', '.join(missing)})"
        )
    sites = {}
    for site, (folder, mapping) in CORPORA.items():
        if on_site is not None:
            on_site(site)
        sites[site] = read_brat(data / folder, mapping=load_mapping(mapping)).notes
    return Cohort("corpora", sites)

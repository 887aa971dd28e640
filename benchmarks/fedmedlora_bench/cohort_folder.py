"""Sites from a folder of JSONL files, for those who hold cohorts that nobody may hand on.

    cohorts/sites/mimic.jsonl  mtsamples.jsonl  utp.jsonl     these train
    cohorts/outside/i2b2.jsonl ynhh.jsonl                     nobody trains on these; the last is the new site

Each file is what `fedmedlora site import` keeps as `data/notes.jsonl`. The files' names are the sites' ids.
"""

from __future__ import annotations

import re
from pathlib import Path

from fedmedlora_bench.cohorts import Cohort
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.records import read_notes

__all__ = ["folder_cohort", "folder_names", "is_cohort_folder"]

SITES = "sites"
OUTSIDE = "outside"
_LEAST = 3
_ID = re.compile(r"[a-z0-9-]{1,32}")


def is_cohort_folder(data: Path) -> bool:
    """Whether a folder is laid out like this, rather than as the open corpora."""
    return (data / SITES).is_dir()


def folder_names(data: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids of the sites that train, and of those that do not.

    Raises:
        ConfigError: There are fewer than three sites, or a file's name is no site id (the operator's).
    """
    sites, outside = _names(data / SITES), _names(data / OUTSIDE)
    if len(sites) < _LEAST:
        raise ConfigError(
            f"{data / SITES}: expected at least {_LEAST} files <site>.jsonl, found {len(sites)}"
        )
    if twice := sorted({*sites} & {*outside}):
        raise ConfigError(f"{data}: '{twice[0]}' is both a site and outside")
    return sites, outside


def folder_cohort(data: Path) -> Cohort:
    """Read all files.

    Raises:
        ConfigError: The folder is not laid out as above (the operator's).
        DataError: A file is malformed; the message names file and line.
    """
    sites, outside = folder_names(data)
    return Cohort(
        "folder",
        {name: tuple(read_notes(data / SITES / f"{name}.jsonl")) for name in sites},
        {name: tuple(read_notes(data / OUTSIDE / f"{name}.jsonl")) for name in outside},
    )


def _names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(file.stem for file in folder.glob("*.jsonl")))
    for name in names:
        if not _ID.fullmatch(name):
            raise ConfigError(f"{folder / name}.jsonl: a site's id is small letters, digits and hyphens")
    return names

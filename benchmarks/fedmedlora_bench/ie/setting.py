"""One federation of a grid: everything that decides its notes, its study and its first adapter.

A setting is plain data, so that it crosses process boundaries and is hashed into the key of every job. What
it describes is read or generated where a job runs, and kept there for the next job of the same setting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from fedmedlora_bench.bench_study import BenchStudy, kind_of, make_bench_study
from fedmedlora_bench.cohort_folder import folder_cohort
from fedmedlora_bench.cohorts import Cohort, SizeLimits, clinic_cohort, split_cohort
from fedmedlora_bench.corpora import corpora_cohort
from fedmedlora_bench.uneven import withhold_types
from fedmedlora_core.config import parse_table
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.site_round import learner_for
from fedmedlora_core.profile import Profile
from fedmedlora_core.splits import Splits

__all__ = ["CohortKind", "Prepared", "Setting", "prepare", "profile_of", "profile_text"]

CohortKind = Literal["clinic", "corpora", "folder"]
"""Synthetic hospitals, the open corpora, or a folder of the operator's own."""


@dataclass(frozen=True)
class Setting:
    """What one federation of one seed is made of.

    Args:
        cohort: Where notes come from.
        data: Folder of the notes; empty for the clinic.
        data_digest: Digest of what was read there.
        base: Folder of the base model.
        base_digest: Its digest.
        profile: Canonical JSON of the profile.
        seed: Seed of notes, splits, adapter and training.
        limits: How much of each site is used.
        site_count: Hospitals of the clinic that train.
        sentences: Sentences of each hospital of the clinic.
        uneven: Each site annotates only some of the types.
    """

    cohort: CohortKind
    data: str
    data_digest: str
    base: str
    base_digest: str
    profile: str
    seed: int
    limits: SizeLimits
    site_count: int
    sentences: int
    uneven: bool = False

    def identity(self) -> dict[str, Any]:
        """What decides a result: all but where files lie."""
        found = asdict(self)
        del found["data"], found["base"]
        return found | {"profile": json.loads(self.profile)}

    def with_profile(self, **changes: object) -> Setting:
        """Return the same federation with values of its profile changed."""
        return replace(self, profile=profile_text(profile_of(self.profile).override(**changes)))


def profile_of(text: str) -> Profile:
    """Read a profile back from a setting."""
    return parse_table(json.loads(text), Profile, name="profile")


def profile_text(profile: Profile) -> str:
    """Write a profile as canonical JSON."""
    return json.dumps(profile.model_dump(mode="json", exclude_none=True), sort_keys=True)


@dataclass(frozen=True)
class Prepared:
    """A setting's notes and study, in memory.

    Args:
        made: Study, base model and first adapter.
        sites: Splits of the sites that train.
        outside: Splits of the sites that do not, with all of their training notes.
    """

    made: BenchStudy
    sites: Mapping[str, Splits]
    outside: Mapping[str, Splits]

    @cached_property
    def learner(self) -> Learner:
        """The base model with an adapter; every job loads its own values into it."""
        return learner_for(self.made.study, self.made.base)

    def tests(self) -> dict[str, Splits]:
        """Splits of every site by name, for its test notes."""
        return {**self.sites, **self.outside}


@lru_cache(maxsize=2)
def prepare(setting: Setting) -> Prepared:
    """Read or generate the notes of a setting and compose its study."""
    cohort, seed = _cohort(setting), setting.seed
    sites = {s: split_cohort(notes, seed=seed, limits=setting.limits) for s, notes in cohort.sites.items()}
    if setting.uneven:
        sites = withhold_types(sites, kind_of(Path(setting.base)))
    whole = replace(setting.limits, train=None)
    outside = {s: split_cohort(notes, seed=seed, limits=whole) for s, notes in cohort.outside.items()}
    train = {site: parts.train for site, parts in sites.items()}
    made = make_bench_study(profile_of(setting.profile), train, Path(setting.base), seed=seed)
    return Prepared(made, sites, outside)


def _cohort(setting: Setting) -> Cohort:
    """The notes of all sites."""
    if setting.cohort != "clinic":
        return _read(setting.cohort, setting.data, setting.data_digest)
    return clinic_cohort(seed=setting.seed, site_count=setting.site_count, sentences=setting.sentences)


@lru_cache(maxsize=1)
def _read(cohort: CohortKind, folder: str, digest: str) -> Cohort:
    """Notes that are the same for every seed; `digest` is what they were when the grid was laid out."""
    del digest
    return corpora_cohort(Path(folder)) if cohort == "corpora" else folder_cohort(Path(folder))

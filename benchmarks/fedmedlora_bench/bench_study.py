"""The study of a benchmark: a profile, the cohort's sites as members, and the initial adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmedlora_bench.cohorts import annotated_types
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import halves_of
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import BaseKind
from fedmedlora_core.learning.lora import LoraTerms
from fedmedlora_core.learning.site_round import first_adapter
from fedmedlora_core.profile import Profile, compose_study
from fedmedlora_core.records import Note
from fedmedlora_core.study import LogTerms, Member, ModelTerms, Study, StudyInfo, threshold_for

__all__ = ["BenchStudy", "kind_of", "make_bench_study", "shared_types", "types_needed"]


@dataclass(frozen=True)
class BenchStudy:
    """A study with the files it names and the profile it was composed from."""

    study: Study
    base: Path
    initial: Adapter
    profile: Profile


def kind_of(base: Path) -> BaseKind:
    """Tell from a model's configuration whether it writes answers or tags words.

    Raises:
        ConfigError: The folder has no readable configuration (the operator's).
    """
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
        architectures = [str(name) for name in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError):
        raise ConfigError(f"{base}: is not a folder with a base model") from None
    return "causal" if any(name.endswith("CausalLM") for name in architectures) else "token_classification"


def shared_types(sites: Mapping[str, Sequence[Note]], kind: BaseKind) -> tuple[str, ...]:
    """Types that a study over these sites can have, in schema order.

    A causal model takes every type that anybody annotated. An encoder has output rows for each type, and a
    sum over fewer sites than the threshold would show them: types of fewer sites are left out.
    """
    needed = types_needed(len(sites), kind)
    counts: dict[str, int] = {}
    for notes in sites.values():
        for name in annotated_types(notes):
            counts[name] = counts.get(name, 0) + 1
    every = annotated_types([note for notes in sites.values() for note in notes])
    return tuple(name for name in every if counts[name] >= needed)


def types_needed(n: int, kind: BaseKind) -> int:
    """How many of n sites have to annotate a type for a study to have it."""
    return threshold_for(n, n // 3) if kind == "token_classification" else 1


def make_bench_study(
    profile: Profile, sites: Mapping[str, Sequence[Note]], base: Path, *, seed: int
) -> BenchStudy:
    """Compose the study of a benchmark; its members' keys are placeholders, because nothing is signed.

    Args:
        profile: Adapter shape, training, aggregation; its labels are cut to what the sites annotated.
        sites: Training notes by site.
        base: Folder of the base model.
        seed: Seed of adapter, splits and training.
    """
    kind = kind_of(base)
    types = set(shared_types(sites, kind))
    entities = [name for name in profile.labels.entities if name in types]
    modifiers = [name for name in profile.labels.modifiers if name in types]
    tasks = ["ner", "re"] if modifiers and "re" in profile.labels.tasks else ["ner"]
    profile = profile.override(labels__entities=entities, labels__modifiers=modifiers, labels__tasks=tasks)
    shape = profile.adapter
    initial, digest = first_adapter(
        base,
        kind=kind,
        terms=LoraTerms(shape.rank, shape.alpha, shape.targets, shape.mode),
        labels=label_set(entities, modifiers),
        seed=seed,
        base_name=base.name,
    )
    members = [_member(site, notes, {*entities, *modifiers}) for site, notes in sites.items()]
    study = compose_study(
        profile,
        info=StudyInfo(id="bench-ie", title="Benchmark", seed=seed),
        log=LogTerms(
            origin="bench.invalid/log",
            log_vkey=_placeholder("log", "log"),
            coordinator_vkey=_placeholder("coordinator", "event"),
        ),
        model=ModelTerms(kind=kind, name=base.name, digest=digest),
        members=members,
        initial_digest=initial.digest,
        dimension=initial.dimension,
        halves=halves_of(initial, shape.mode),
    )
    return BenchStudy(study, base, initial, profile)


def _member(site: str, notes: Sequence[Note], types: set[str]) -> Member:
    """A site as a member of the study, with the types of the study that it annotated."""
    return Member(
        id=site,
        event_vkey=_placeholder(site, "event"),
        witness_vkey=_placeholder(site, "witness"),
        annotated=tuple(name for name in annotated_types(notes) if name in types),
    )


def _placeholder(name: str, role: str) -> str:
    """A text of a verifier key's length that no signature can be checked with."""
    return f"{name}+{role}+{'0' * 40}"

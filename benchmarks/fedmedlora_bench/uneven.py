"""Uneven annotation: the same notes, but each site's annotators looked for only some of the types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fedmedlora_bench.bench_study import types_needed
from fedmedlora_bench.cohorts import annotated_types
from fedmedlora_core.learning.base import BaseKind
from fedmedlora_core.splits import Splits

__all__ = ["withhold_types"]


def withhold_types(sites: Mapping[str, Splits], kind: BaseKind) -> dict[str, Splits]:
    """Take annotated types away from sites in turn, as far as a study of this kind of model allows.

    Each type stays with the sites that a study needs for it, and with at least half of those that have it;
    the test notes keep all their types.

    Args:
        sites: Splits by site.
        kind: Of the base model; an encoder's study needs each type at T sites.
    """
    has = {site: annotated_types(splits.train) for site, splits in sites.items()}
    needed = types_needed(len(sites), kind)
    withheld: dict[str, set[str]] = {site: set() for site in sites}
    turn = 0
    for name in dict.fromkeys(label for types in has.values() for label in types):
        holders = [site for site, types in has.items() if name in types]
        spare = min(len(holders) - needed, len(holders) // 2)
        for step in range(max(0, spare)):
            withheld[holders[(turn + step) % len(holders)]].add(name)
        turn += max(0, spare)
    return {site: _without(splits, withheld[site]) for site, splits in sites.items()}


def _without(splits: Splits, types: set[str]) -> Splits:
    """Training and validation notes as annotators would leave them who do not look for these types."""
    train, validation = (
        tuple(note.restricted_to(note.annotated - types) for note in part)
        for part in (splits.train, splits.validation)
    )
    return replace(splits, train=train, validation=validation)

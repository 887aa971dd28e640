"""Study tables for tests; keys are placeholders of the right shape unless given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fedmedlora_core.config import parse_table
from fedmedlora_core.profile import Profile, compose_study
from fedmedlora_core.study import AuditTerms, LogTerms, Member, ModelTerms, Study, StudyInfo
from fedmedlora_testkit.audit_charges import PRIVACY


def placeholder_vkey(name: str, tag: str) -> str:
    """A text of a verifier key's shape; not a key."""
    return f"{name}+{tag}+{'A' * 40}{tag}"


def make_study(
    ids: Sequence[str] = ("site-a", "site-b", "site-c", "site-d"),
    *,
    initial_digest: str = "0" * 64,
    dimension: int = 16,
    halves: tuple[int, int] | None = None,
    vkeys: Mapping[str, tuple[str, str]] | None = None,
    log: LogTerms | None = None,
    overrides: Mapping[str, Any] | None = None,
    audit: AuditTerms | None = None,
    kind: Literal["causal", "token_classification"] = "causal",
    annotated: Mapping[str, Sequence[str]] | None = None,
) -> Study:
    """A study over the tiny profile; `vkeys` maps id to (event, witness) keys, `annotated` to types."""
    profile = Profile.load("tiny").override(**dict(overrides or {}))
    keys = vkeys or {i: (placeholder_vkey(i, "e"), placeholder_vkey(i, "w")) for i in ids}
    labels = (*profile.labels.entities, *profile.labels.modifiers)
    members = [
        Member(
            id=i,
            event_vkey=keys[i][0],
            witness_vkey=keys[i][1],
            annotated=tuple((annotated or {}).get(i, labels)),
        )
        for i in ids
    ]
    return compose_study(
        profile,
        info=StudyInfo(id="trial", title="A trial", seed=7),
        log=log
        or LogTerms(
            origin="test.example/log",
            log_vkey=placeholder_vkey("test.example/log", "l"),
            coordinator_vkey=placeholder_vkey("coordinator", "c"),
        ),
        model=ModelTerms(kind=kind, name="tiny", digest="1" * 64),
        members=members,
        initial_digest=initial_digest,
        dimension=dimension,
        halves=halves,
        audit=audit,
    )


def with_privacy(study: Study, table: Mapping[str, Any] = PRIVACY) -> Study:
    """The study with a privacy budget, and with weights that tell nothing of a site."""
    alike = changed(study, "aggregation", size_exponent_milli=0, tau_milli=0)
    whole = alike.model_dump(mode="json", by_alias=True)
    return parse_table({**whole, "privacy": dict(table)}, Study, name="study")


def changed(study: Study, section: str, **values: Any) -> Study:
    """The study with values of one section replaced, validated again."""
    table = study.model_dump(mode="json", by_alias=True)
    table[section] = {**(table.get(section) or {}), **values}
    return parse_table(table, Study, name="study")

"""Building a study package: the members' cards, a profile and a base model become a charter."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmedlora_cli.study_continued import continued_adapter, last_head
from fedmedlora_cli.study_graph import check_graph, with_graph
from fedmedlora_cli.study_privacy import NO_OPTIONS, with_privacy
from fedmedlora_cli.study_site_noise import (
    SiteBudget,
    check_site_noise_budget,
    with_constant_weights,
    with_site_noise,
)
from fedmedlora_core.adapter_parts import halves_of
from fedmedlora_core.architectures import check_architecture
from fedmedlora_core.config import Section, load_toml
from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.devices import dtype_of
from fedmedlora_core.learning.lora import LoraTerms
from fedmedlora_core.learning.site_round import first_adapter
from fedmedlora_core.profile import Profile, compose_study
from fedmedlora_core.secure_aggregation import CKKS_CONTEXT_FILE
from fedmedlora_core.shipped import shipped_base
from fedmedlora_core.study import (
    INITIAL_FOLDER,
    STUDY_FILE,
    AuditTerms,
    LogTerms,
    Member,
    ModelTerms,
    Study,
    StudyInfo,
)


class MemberCard(Section):
    """The public card of a site, as `site enroll` writes it."""

    id: str
    event_vkey: str
    witness_vkey: str
    annotated: tuple[str, ...] = ()


class CoordinatorCard(Section):
    """The public card of the coordinator, as `coordinator init` writes it."""

    name: str
    address: str
    enrolment_address: str
    ca_fingerprint: str
    log_vkey: str
    coordinator_vkey: str


def build_package(
    out: Path,
    *,
    study_id: str,
    title: str,
    seed: int,
    profile: str,
    overrides: Mapping[str, object],
    coordinator_card: Path,
    member_cards: Sequence[Path],
    base: Path | None,
    ckks_context: Path | None = None,
    continues: Path | None = None,
    adapter: Path | None = None,
    drop_percent: int = 10,
    audit: AuditTerms | None = None,
    privacy: Mapping[str, Any] | None = None,
    site_budget: SiteBudget | None = None,
) -> Study:
    """Write `study.toml` and `initial/` into `out`.

    Args:
        out: Folder to make.
        study_id: Id of the study.
        title: A line for people.
        seed: Seed of splits, adapter and training.
        profile: Name of a shipped profile or path of a TOML file.
        overrides: Single values, as in `Profile.override`.
        coordinator_card: The coordinator's `card.toml`.
        member_cards: Every member's `card.toml`, in charter order.
        base: Folder of the base model; the shipped one when None.
        ckks_context: Public CKKS context to put into the package.
        continues: Bundle of the log that this study follows, or None.
        adapter: PEFT folder of the adapter to go on from; None begins anew.
        drop_percent: Drop-outs, in hundredths of the members, that a sparse graph has to survive.
        privacy: Arguments of `with_privacy`; None leaves it to the profile.
        audit: What an auditor demands; None demands witnesses and keeps the log for six years.
        site_budget: What the rounds may cost a site; None adds no noise to what the profile says.

    Returns:
        The study.

    Raises:
        ConfigError: A file is wrong or a rule of the charter is broken.
    """
    settings = with_constant_weights(Profile.load(profile).override(**overrides), site_budget)
    settings = with_privacy(settings, **dict(privacy or NO_OPTIONS))
    settings = with_graph(settings, members=len(member_cards), drop_percent=drop_percent)
    members = [load_toml(path, MemberCard) for path in member_cards]
    folder = base or shipped_base()
    if settings.base is not None:
        check_architecture(settings.base.architecture, folder)
    shape = settings.adapter
    terms = LoraTerms(rank=shape.rank, alpha=shape.alpha, targets=shape.targets, mode=shape.mode)
    labels = label_set(settings.labels.entities, settings.labels.modifiers)
    initial, base_digest = first_adapter(
        folder,
        kind=settings.kind,
        terms=terms,
        labels=labels,
        seed=seed,
        base_name=folder.name,
        dtype=dtype_of(settings.training),
    )
    if adapter is not None:
        initial = continued_adapter(adapter, initial, continues)
    study = compose_study(
        settings,
        info=StudyInfo(id=study_id, title=title, seed=seed),
        log=_log_terms(load_toml(coordinator_card, CoordinatorCard), continues),
        model=ModelTerms(kind=settings.kind, name=folder.name, digest=base_digest),
        members=[Member.model_validate(card.model_dump(), strict=False) for card in members],
        initial_digest=initial.digest,
        dimension=initial.dimension,
        halves=halves_of(initial, shape.mode),
        audit=audit or AuditTerms(quorum=True),
    )
    study = study if site_budget is None else with_site_noise(study, site_budget)
    check_site_noise_budget(study)
    check_graph(study)
    initial.save(out / INITIAL_FOLDER)
    study.write(out / STUDY_FILE)
    if ckks_context is not None:
        shutil.copyfile(ckks_context, out / CKKS_CONTEXT_FILE)
    return study


def _log_terms(centre: CoordinatorCard, continues: Path | None) -> LogTerms:
    """The log that a coordinator keeps, and the one that it goes on from."""
    return LogTerms(
        origin=centre.log_vkey.split("+", 1)[0],
        log_vkey=centre.log_vkey,
        coordinator_vkey=centre.coordinator_vkey,
        predecessor=None if continues is None else last_head(continues),
    )


def ckks_table(context: Path | None, custody: str, holder: str) -> dict[str, str] | None:
    """Return the charter's table for a public context: who holds the key, and its digest; None without one.

    Raises:
        ConfigError: The file is no public context.
    """
    if context is None:
        return None
    from fedmedlora_site.custody import read_context

    return {"custody": custody, "holder": holder, "context": read_context(context).digest}

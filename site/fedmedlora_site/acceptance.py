"""Accepting a study: compare everything with what this site knows by itself, then record the charter.

Nothing that arrives through the coordinator is a reason to believe. Every member entry must equal a pin, the
coordinator's keys those of the invitation, the base model and the initial adapter their digests, and the
site's own policy may say no. A refusal writes nothing (PROTOCOL §2.2).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import AuditError
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import check_layout
from fedmedlora_core.errors import ConfigError, CoreError
from fedmedlora_core.learning.digest import base_digest
from fedmedlora_core.policy import SitePolicy
from fedmedlora_core.secure_aggregation import CKKS_CONTEXT_FILE
from fedmedlora_core.shipped import shipped_base
from fedmedlora_core.study import INITIAL_FOLDER, STUDY_FILE, Study
from fedmedlora_crypto.errors import TermsError
from fedmedlora_crypto.secagg.graph_parameters import GraphTerms, check_graph_terms
from fedmedlora_site.config import ModelSection, SiteConfig
from fedmedlora_site.custody import check_context, need_library
from fedmedlora_site.durable import make_folder, sync_folder, write_atomic
from fedmedlora_site.errors import AcceptanceError, FolderError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.pins import PinnedKeys, Pins
from fedmedlora_site.spending import judge_plan, ledger_of

_ADAPTER_BYTES = 1 << 34  # an initial adapter beyond 16 GiB is a mistake, not a study


def accept(root: Path, package: Path, *, base: Path | None = None) -> Study:
    """Accept a study package for this site, or record nothing (PROTOCOL §2.2).

    Args:
        root: The site's folder.
        package: Folder with `study.toml` and `initial/`.
        base: Folder of the base model, kept in `site.toml`; None for the one configured there.

    Returns:
        The accepted study; show its `warnings()` to the operator.

    Raises:
        AcceptanceError: The study does not fit this site's pins, model or state.
        PolicyRefusal: This site's policy says no.
        ConfigError: A file is missing or malformed.
    """
    folder = SiteFolder.open(root)
    config = configured = SiteConfig.load(folder.config)
    if base is not None:
        config = config.model_copy(update={"model": ModelSection(path=str(base.resolve()))})
    if not package.is_dir():
        raise ConfigError(f"{package}: expected a study package (a folder with {STUDY_FILE} and initial/)")
    study = Study.load(package)
    check_members(study, Pins.load(folder.pins), config.site.id)
    policy = SitePolicy.load(folder.policy)
    policy.judge(study)
    judge_plan(study, policy.privacy, ledger_of(folder, config), config.site.id)
    check_model(study, config)
    _check_initial(study, package / INITIAL_FOLDER)
    check_context(study, package / CKKS_CONTEXT_FILE)
    need_library(study)
    _check_charter(study)
    _record(folder, study, package)
    if config != configured:
        config.write(folder.config)
    return study


def load_accepted(folder: SiteFolder) -> tuple[Study, CharterTerms]:
    """Read the accepted charter back.

    Raises:
        FolderError: No study was accepted, or the record is damaged.
    """
    try:
        data = folder.charter.read_bytes()
    except FileNotFoundError:
        raise FolderError(f"{folder.root}: no study is accepted here; run `site accept` first") from None
    try:
        return Study.from_canonical_json(data), CharterTerms.from_json(data)
    except (CoreError, AuditError) as exc:
        raise FolderError(f"{folder.charter}: {exc}") from None


def check_members(study: Study, pins: Pins, own: str) -> None:
    """Compare the coordinator's and every member's keys with this site's pins (decision G32).

    Raises:
        AcceptanceError: This site is not a member, a pin is missing, or a key differs.
    """
    if own not in study.member_ids:
        raise AcceptanceError(f"this site ('{own}') is not a member of study '{study.study.id}'")
    named = (study.log.log_vkey, study.log.coordinator_vkey)
    if named != (pins.coordinator.log_vkey, pins.coordinator.coordinator_vkey):
        raise AcceptanceError("the study names other coordinator keys than this site's invitation")
    missing = [m.id for m in study.members if m.id not in pins.members]
    if missing:
        raise AcceptanceError(
            f"no pin for {', '.join(missing)}: get their cards by another route and run `site pin`"
        )
    # R2.2.1: every entry, also those of members that this site never talks to.
    for member in study.members:
        keys = PinnedKeys(event_vkey=member.event_vkey, witness_vkey=member.witness_vkey)
        if keys != pins.members[member.id]:
            raise AcceptanceError(f"the study names other keys for '{member.id}' than this site has pinned")


def model_folder(config: SiteConfig) -> Path:
    """Where the base model lies: the configured path, or the small model in the package."""
    if config.model.path:
        return Path(config.model.path)
    return shipped_base()


def check_model(study: Study, config: SiteConfig) -> None:
    """Compare the base model on this site's disk with the study's digest.

    A rehearsal loads no model, so it compares none.

    Raises:
        AcceptanceError: It is another model.
        ConfigError: There is no model in the folder.
    """
    if config.trainer.kind == "rehearsal":
        return
    path = model_folder(config)
    found = base_digest(path)
    if found != study.model.digest:
        raise AcceptanceError(
            f"{path}: this base model has digest {found[:12]}…, the study names {study.model.digest[:12]}…"
        )


def _check_initial(study: Study, initial: Path) -> None:
    """Compare the initial adapter with its digest and dimension."""
    weights = initial / "adapter_model.safetensors"
    if weights.is_file() and weights.stat().st_size > _ADAPTER_BYTES:
        raise AcceptanceError(f"{initial}: is too large for an initial adapter")
    adapter = Adapter.load(initial)
    if adapter.digest != study.adapter.initial_digest:
        raise AcceptanceError(f"{initial}: is not the initial adapter that the study names")
    try:
        check_layout(adapter, study.adapter)
    except ConfigError as exc:
        raise AcceptanceError(f"{initial}: {exc}") from None


def _check_charter(study: Study) -> None:
    """Let the law read the charter too: both readings must agree."""
    try:
        terms = CharterTerms.from_json(study.canonical_json())
    except AuditError as exc:
        raise AcceptanceError(f"the charter is not lawful: {exc}") from None
    if terms.digest != study.digest:
        raise AcceptanceError("the charter has two digests; its canonical form is broken")
    if terms.site_noise is not None:
        try:  # R4.14.6
            terms.site_noise.need_budget()
        except AuditError as exc:
            raise AcceptanceError(f"the charter is over its own budget: {exc}") from None
    if terms.graph is not None:
        try:  # R6.15.2
            check_graph_terms(GraphTerms(*terms.graph), n=terms.n, colluding=terms.colluding_sites)
        except TermsError as exc:
            raise AcceptanceError(f"the charter's graph does not protect this site: {exc}") from None


def _record(folder: SiteFolder, study: Study, package: Path) -> None:
    """Copy the package and write the charter, whole or not at all."""
    if folder.charter.is_file():
        if folder.charter.read_bytes() == study.canonical_json():
            return
        if folder.outbox.is_dir() and any(folder.outbox.glob("*.note")):
            raise AcceptanceError(
                "this site has signed another charter already; a site folder serves one study"
            )
    staging = make_folder(folder.root / ".study.new")
    shutil.rmtree(staging)
    staging.mkdir(mode=0o700)
    shutil.copyfile(package / STUDY_FILE, staging / STUDY_FILE)
    shutil.copytree(package / INITIAL_FOLDER, staging / INITIAL_FOLDER)
    if study.secure_aggregation.ckks is not None:
        shutil.copyfile(package / CKKS_CONTEXT_FILE, staging / CKKS_CONTEXT_FILE)
    write_atomic(staging / folder.charter.name, study.canonical_json())
    sync_folder(staging)
    for stale in (folder.study, folder.mirror):  # nothing of this site's was signed under it
        shutil.rmtree(stale, ignore_errors=True)
    staging.rename(folder.study)
    sync_folder(folder.root)


__all__ = [
    "accept",
    "check_members",
    "check_model",
    "load_accepted",
    "model_folder",
]

"""The study that a coordinator runs: taken in once, checked against its own keys, never exchanged."""

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import AuditError
from fedmedlora_coordinator.folder import Folder, sync_folder
from fedmedlora_coordinator.ledger import Keys
from fedmedlora_coordinator.model import GlobalModel
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.study import STUDY_FILE, Study
from fedmedlora_crypto.errors import TermsError
from fedmedlora_crypto.secagg.graph_parameters import GraphTerms, check_graph_terms


@dataclass(frozen=True)
class RunningStudy:
    """A study with the terms that the law reads from it."""

    study: Study
    terms: CharterTerms
    package: Path


def adopt_study(folder: Folder, package: Path | None, keys: Keys) -> RunningStudy | None:
    """Take a study package in, or read the one taken in before.

    Args:
        folder: The coordinator's folder.
        package: Study package to run; None to go on with the one in the folder.
        keys: This coordinator's keys; the study must name them.

    Returns:
        The study, or None when there is none yet.

    Raises:
        ConfigError: The package is not usable here (the operator's); nothing was taken in.
    """
    if package is not None:
        given = _load(package, keys)
        if not folder.study.exists():
            _copy(package, folder.study)
        elif Study.load(folder.study).digest != given.study.digest:
            raise ConfigError(
                f"{folder.root}: runs another study already; make a new coordinator folder for this one"
            )
    return _load(folder.study, keys) if folder.study.exists() else None


def _load(package: Path, keys: Keys) -> RunningStudy:
    if not (package / STUDY_FILE).is_file():
        raise ConfigError(f"{package}: is not a study package (no {STUDY_FILE})")
    study = Study.load(package)
    if (study.log.log_vkey, study.log.coordinator_vkey) != (keys.log.vkey, keys.event.vkey):
        raise ConfigError(f"{package}: the study names the keys of another coordinator")
    try:
        terms = CharterTerms.from_json(study.canonical_json())
    except AuditError as error:
        raise ConfigError(f"{package / STUDY_FILE}: {error}") from None
    if terms.graph is not None:
        try:  # R6.15.2: no honest site would take part
            check_graph_terms(GraphTerms(*terms.graph), n=terms.n, colluding=terms.colluding_sites)
        except TermsError as error:
            raise ConfigError(f"{package / STUDY_FILE}: {error}") from None
    GlobalModel.of_package(study, package)
    return RunningStudy(study, terms, package)


def _copy(source: Path, target: Path) -> None:
    staging = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        shutil.copytree(source, staging)
        staging.replace(target)
        sync_folder(target.parent)
    except OSError as exc:
        raise ConfigError(f"{source}: cannot be copied ({exc.strerror})") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)

"""A log that was closed on doubt, and the new one that names its last head."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_cli.study_commands import app
from fedmedlora_coordinator import setup
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.study import Study
from fedmedlora_site.pins import Card
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog
from fedmedlora_testkit.studies import make_study


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a log that nobody goes on with."""
    return Forger(StudyLog().play(1)).seal(tmp_path_factory.mktemp("old") / "bundle")


def new_study(tmp_path: Path, *arguments: str) -> Result:
    setup.init(tmp_path / "centre", name="new.example", address="h:1", enrolment_address="h:2")
    cards = []
    for site in ("site-a", "site-b", "site-c"):
        event = NoteSigner.generate(site)
        witness = NoteSigner.generate(site, algorithm=ALG_COSIGNATURE)
        Card(id=site, event_vkey=event.vkey, witness_vkey=witness.vkey).write(tmp_path / f"{site}.toml")
        cards += ["--member", str(tmp_path / f"{site}.toml")]
    given = ["--coordinator-card", str(tmp_path / "centre" / "card.toml"), *cards, *arguments]
    return CliRunner().invoke(app, ["new", "--out", str(tmp_path / "study"), "--id", "again", *given])


def test_the_new_charter_names_the_last_head_of_the_old_log(tmp_path: Path, closed: Path) -> None:
    done = new_study(tmp_path, "--continues", str(closed))
    assert done.exit_code == 0, done.output
    study = Study.load(tmp_path / "study")
    log = StudyLog().play(1)
    assert study.log.predecessor is not None
    assert study.log.predecessor.model_dump() == {
        "origin": ORIGIN,
        "size": log.tree.size,
        "root": log.tree.root().hex(),
    }
    assert f"continues the log {ORIGIN} at its head over {log.tree.size} entries" in done.output.replace(
        "\n", " "
    )
    # It is in what every member signs, and the auditor reads the charter as before.
    assert CharterTerms.from_json(study.canonical_json()).digest == study.digest
    assert (
        study.digest
        != study.model_copy(update={"log": study.log.model_copy(update={"predecessor": None})}).digest
    )


def test_what_is_no_bundle_of_a_log_makes_no_study(tmp_path: Path, closed: Path) -> None:
    (tmp_path / "empty").mkdir()
    forged = tmp_path / "forged"
    forged.mkdir()
    for name in ("charter.json", "checkpoint"):
        (forged / name).write_bytes((closed / name).read_bytes())
    (forged / "checkpoint").write_bytes((closed / "checkpoint").read_bytes().replace(b"\n", b"\n1", 1))
    for place, folder in (("a", tmp_path / "empty"), ("b", forged)):
        (tmp_path / place).mkdir()
        done = new_study(tmp_path / place, "--continues", str(folder))
        assert done.exit_code != 0
        assert isinstance(done.exception, ConfigError)
        assert "is no bundle of a log" in str(done.exception)
        assert not (tmp_path / place / "study").exists()


def test_a_log_does_not_continue_itself() -> None:
    study = make_study()
    table = study.model_dump(mode="json", by_alias=True, exclude_none=True)
    table["log"]["predecessor"] = {"origin": study.log.origin, "size": 5, "root": "0" * 64}
    with pytest.raises(ValueError, match="a new log has a name"):
        Study.model_validate(table, strict=False)

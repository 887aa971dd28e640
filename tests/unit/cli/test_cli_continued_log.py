"""A log that was closed on doubt, and the new one that names its last head."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedmedlora_audit import event_data as of
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_cli.study_commands import app
from fedmedlora_coordinator import setup
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.study import Study
from fedmedlora_site.pins import Card
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog
from fedmedlora_testkit.rehearsal import small_adapter
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


def log_over(adapter: str, folder: Path) -> Path:
    """The bundle of a log that ended before its first round, from this adapter."""
    log = StudyLog(adapter={"initial_digest": adapter}).set_up()
    log.say("coordinator", "run.closed", of.RunClosed(rounds=0))
    return Forger(log).seal(folder)


def test_a_study_goes_on_from_the_adapter_that_the_old_log_led_to(tmp_path: Path, closed: Path) -> None:
    # R2.5.8
    (tmp_path / "first").mkdir()
    assert new_study(tmp_path / "first", "--seed", "3").exit_code == 0
    old = tmp_path / "first" / "study" / "initial"
    digest = Adapter.load(old).digest
    for place, bundle, fits in (
        ("fits", log_over(digest, tmp_path / "bundle"), True),
        ("not", closed, False),
    ):
        (tmp_path / place).mkdir()
        done = new_study(tmp_path / place, "--continues", str(bundle), "--adapter", str(old), "--seed", "4")
        assert (done.exit_code == 0) is fits, done.output
        if fits:
            assert Study.load(tmp_path / place / "study").adapter.initial_digest == digest
            assert Adapter.load(tmp_path / place / "study" / "initial").digest == digest
        else:
            assert "is not the adapter that the log in" in str(done.exception)
            assert not (tmp_path / place / "study").exists()


def test_an_adapter_of_another_layout_is_refused(tmp_path: Path) -> None:
    small_adapter().save(tmp_path / "other")
    done = new_study(tmp_path, "--adapter", str(tmp_path / "other"))
    assert "has another layout" in str(done.exception)


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

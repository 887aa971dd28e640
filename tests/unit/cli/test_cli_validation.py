"""`study new --validate-every`, `--choose` and `demo --validate-every`: what an operator can ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_cli.app import build_app
from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_coordinator import setup
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.study import Study
from fedmedlora_core.validation_terms import ValidationTerms
from fedmedlora_site.pins import Card


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments that name a coordinator and four hospitals."""
    folder = tmp_path_factory.mktemp("cards")
    setup.init(folder / "centre", name="new.example", address="h:1", enrolment_address="h:2")
    found = ["--coordinator-card", str(folder / "centre" / "card.toml")]
    for site in ("site-a", "site-b", "site-c", "site-d"):
        event, witness = NoteSigner.generate(site), NoteSigner.generate(site, algorithm=ALG_COSIGNATURE)
        card = Card(
            id=site, event_vkey=event.vkey, witness_vkey=witness.vkey, annotated=("problem", "drug", "dosage")
        )
        card.write(folder / f"{site}.toml")
        found += ["--member", str(folder / f"{site}.toml")]
    return found


def new(cards: list[str], out: Path, *options: str) -> Any:
    return CliRunner().invoke(
        build_app(["study"]), ["study", "new", "--out", str(out), "--id", "ward", *cards, *options]
    )


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ((), None),
        (("--validate-every", "0"), None),
        (("--validate-every", "3"), ValidationTerms(every_rounds=3, choose="best")),
        (("--validate-every", "1", "--choose", "last"), ValidationTerms(every_rounds=1, choose="last")),
    ],
)
def test_the_charter_says_what_was_asked(
    cards: list[str], tmp_path: Path, options: tuple[str, ...], terms: ValidationTerms | None
) -> None:
    done = new(cards, tmp_path / "study", *options)
    assert done.exit_code == 0, done.output
    assert Study.load(tmp_path / "study").secure_aggregation.validation == terms


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--validate-every", "-1"), "every_rounds"),
        (("--validate-every", "1", "--choose", "middle"), "choose"),
        (("--validate-every", "1", "--dp-epsilon", "8"), "validation"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    cards: list[str], tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    done = new(cards, tmp_path / "study", *options)
    assert isinstance(done.exception, ConfigError), done.output
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (tmp_path / "study").exists() or not any((tmp_path / "study").iterdir())


def test_a_demo_counts_only_when_asked(tmp_path: Path) -> None:
    assert DemoOptions(out=tmp_path).validate_every == 0
    with pytest.raises(ConfigError, match="--validate-every is a number of rounds"):
        DemoOptions(out=tmp_path, validate_every=-1)

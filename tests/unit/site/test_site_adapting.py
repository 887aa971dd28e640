"""`site adapt`: a released adapter fitted to few labelled notes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner

from fedmedlora_bench.bench_study import make_bench_study
from fedmedlora_cli.app import build_app
from fedmedlora_coordinator.release import write_release
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.learning.alone import with_steps_for_few
from fedmedlora_core.profile import Profile
from fedmedlora_core.records import write_notes
from fedmedlora_core.study import CHARTER_FILE, Study
from fedmedlora_site.adapting import ADAPTED_FILE, RELEASED_RATE_PERCENT, Adapted, adapt, split_few
from fedmedlora_testkit.models import make_notes, write_encoder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """What a study released that has learned nothing yet: any gain is this site's training."""
    profile = Profile.load("encoder").override(
        training__rounds=4, training__learning_rate_micro=20_000, training__warmup_steps=0
    )
    sites = {name: make_notes(4) for name in ("a", "b", "c")}
    made = make_bench_study(profile, sites, base, seed=3)
    folder = tmp_path_factory.mktemp("study") / "released"
    write_release(folder, made.initial, made.study, rounds=1)
    return folder


def fitted(released: Path, base: Path, out: Path, seed: int = 1) -> Adapted:
    return adapt(released, make_notes(10, first=50), out, base=base, seed=seed)


def test_fitting_learns_from_few_notes_and_is_repeatable(released: Path, base: Path, tmp_path: Path) -> None:
    rounds: list[tuple[int, int]] = []
    notes = make_notes(10, first=50)
    found = adapt(
        released,
        notes,
        tmp_path / "one",
        base=base,
        on_round=lambda done, total: rounds.append((done, total)),
    )
    assert rounds == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (found.train, found.validation) == (8, 2)
    assert found.after.f1 > found.before.f1 + 0.2
    assert found.round > 0
    again = adapt(released, list(reversed(notes)), tmp_path / "two", base=base)
    assert again.digest == found.digest
    assert fitted(released, base, tmp_path / "three", seed=2).digest != found.digest


def test_result_is_a_folder_like_a_released_one(released: Path, base: Path, tmp_path: Path) -> None:
    notes, out, scores = tmp_path / "notes.jsonl", tmp_path / "fitted", tmp_path / "scores.json"
    write_notes(notes, make_notes(10, first=50))
    before = {path.name: path.read_bytes() for path in released.iterdir()}
    options = ["--adapter", str(released), "--out", str(out), "--base", str(base), "--json", str(scores)]
    command = ["site", "adapt", str(notes), *options]
    done = CliRunner().invoke(build_app(command), command)
    assert done.exit_code == 0, done.output
    assert "trained on 8 notes, held out 2" in done.output
    assert "keep it as you keep the notes" in done.output
    assert {path.name: path.read_bytes() for path in released.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fitted", "notes.jsonl", "scores.json"]
    facts = json.loads((out / ADAPTED_FILE).read_text())
    assert facts["adapted_from"] == Adapter.load(released).digest
    assert facts["digest"] == Adapter.load(out).digest != facts["adapted_from"]
    assert json.loads(scores.read_text())["after"]["ner"]["strict_f1"] == facts["after"]["ner"]["strict_f1"]
    judged = tmp_path / "judged.json"
    options = ["--adapter", str(out), "--data", str(notes), "--base", str(base), "--json", str(judged)]
    command = ["evaluate", *options]
    assert CliRunner().invoke(build_app(command), command).exit_code == 0
    assert json.loads(judged.read_text())["ner"]["strict_f1"] > 0.2


def test_a_round_that_is_no_better_is_not_kept(released: Path, base: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    fitted(released, base, first)
    slow = tmp_path / "slow.toml"
    table = Profile.load("encoder").override(training__rounds=1, training__learning_rate_micro=1)
    slow.write_text(tomli_w.dumps(table.model_dump(mode="json", exclude_none=True)))
    found = adapt(first, make_notes(10, first=50), tmp_path / "second", base=base, profile=str(slow))
    assert found.round == 0
    assert found.digest == Adapter.load(first).digest
    assert any("kept as it was" in line for line in found.lines())


def test_few_notes_get_the_steps_of_fifty_and_a_released_adapter_a_quarter_of_the_rate(
    released: Path,
) -> None:
    study = Study.from_canonical_json((released / CHARTER_FILE).read_bytes())
    terms = with_steps_for_few(study, 20, rate_percent=RELEASED_RATE_PERCENT).training
    assert terms.local_epochs == 3 * study.training.local_epochs
    assert terms.learning_rate_micro * 4 == study.training.learning_rate_micro
    assert with_steps_for_few(study, 50).training == study.training


def test_refusals_are_one_line_and_write_nothing(released: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    notes = make_notes(10)
    with pytest.raises(ConfigError, match="name a folder that a study released"):
        adapt(base, notes, out, base=base)
    with pytest.raises(ConfigError, match="is another base model than the study names"):
        adapt(released, notes, out)
    with pytest.raises(DataError, match="no note has annotated types of the study"):
        adapt(
            released, [replace(note, entities=(), relations=(), annotated=frozenset()) for note in notes], out
        )
    with pytest.raises(DataError, match="cannot be split"):
        adapt(released, notes[:1], out, base=base)
    assert not any(tmp_path.iterdir())
    out.mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        adapt(released, notes, out, base=base)


def test_patients_are_held_out_whole() -> None:
    notes = [replace(note, patient_id=f"p{i % 4}") for i, note in enumerate(make_notes(12))]
    splits = split_few(notes, seed=1)
    assert not splits.test
    assert not {n.patient_key for n in splits.train} & {n.patient_key for n in splits.validation}
    assert len(splits.train) + len(splits.validation) == 12

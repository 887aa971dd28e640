"""`bench attacks`: each attack succeeds where nothing protects, and falls to chance where something does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fedmedlora_bench.attack_rows import attack_tables
from fedmedlora_bench.attacks import AttackOptions, run_attacks
from fedmedlora_bench.attacks.inversion_scene import Scene
from fedmedlora_bench.attacks.measuring import note_losses, read_out
from fedmedlora_bench.attacks.planted import Secret, coin_canaries, planted_secrets
from fedmedlora_bench.attacks.ranking import auc, exposure
from fedmedlora_bench.attacks.spans import Layer0, Projection, invert_first_adam_step, token_scores
from fedmedlora_bench.attacks.victim import attack_setting, is_in, private_terms, victim_of
from fedmedlora_bench.grid import code_digest
from fedmedlora_bench.report import write_report
from fedmedlora_cli.app import build_app
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.lora import load_adapter
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import train_local
from fedmedlora_core.records import validate_note
from fedmedlora_core.shipped import shipped_base
from fedmedlora_testkit.models import write_encoder

ANNOTATED = frozenset({"problem", "treatment", "test", "drug"})
TINY = AttackOptions(
    site_count=3,
    pool=48,
    rounds=1,
    draws=2,
    repetitions=(2,),
    secrets_each=1,
    labels=2,
    alternatives=7,
    canaries=6,
    canary_notes=1,
    epsilons=(8.0,),
    steps=2,
    batch_units=4,
    batches=(1,),
    federations=(3, 10),
    poisoned_rounds=1,
    test=4,
)


def secrets(**changes: Any) -> tuple[Secret, ...]:
    given: dict[str, Any] = {"seed": 3, "repetitions": (1, 4), "each": 2, "labels": 3, "annotated": ANNOTATED}
    return planted_secrets(**(given | changes))


def test_planted_notes_are_notes_and_say_the_secret_as_often_as_asked() -> None:
    found = secrets()
    assert [(s.kind, s.repetitions) for s in found[::2]] == [
        ("words", 1), ("words", 4), ("labels", 1), ("labels", 4),
    ]  # fmt: skip
    for secret in found:
        notes = secret.notes()
        assert len({note.document_id for note in notes}) == secret.repetitions
        assert {note.patient_id for note in notes} == {secret.id}
        for note in notes:
            validate_note(note)
        shown = " ".join(secret.value)
        told = [e.type for e in notes[0].entities]
        assert told == list(secret.value) if secret.kind == "labels" else shown in notes[0].text
        assert shown not in repr(secret)
    assert secrets() == found and secrets(seed=4) != found


def test_alternatives_are_others_and_of_labels_all_others() -> None:
    words, labels = secrets(each=1, repetitions=(1,))
    assert len({*words.alternatives(50), words.value}) == 51
    assert len({*labels.alternatives(0), labels.value}) == 4**3


def test_coins_are_fair_and_each_draws_its_own() -> None:
    units = [canary.id for canary in coin_canaries(seed=1, count=400, notes=1, labels=2, annotated=ANNOTATED)]
    first, second = ([is_in(1, draw, unit) for unit in units] for draw in (0, 1))
    assert 150 < sum(first) < 250
    assert 150 < sum(a == b for a, b in zip(first, second, strict=True)) < 250


def layer(tokens: int, *, rank: int = 16, half: str = "B", noise: float = 0.0) -> tuple[Layer0, np.ndarray]:
    """A first layer of width 24 with gradients of so many different tokens of a vocabulary of 120."""
    draws = np.random.default_rng(7)
    inputs = draws.normal(size=(120, 24))
    there = np.zeros(120, dtype=bool)
    there[draws.permutation(120)[:tokens]] = True
    made = []
    for _ in range(3):
        a = draws.normal(size=(rank, 24))
        left = draws.normal(size=(32 if half == "B" else rank, tokens))
        gradient = left @ (inputs[there] @ a.T if half == "B" else inputs[there])
        gradient = gradient + noise * draws.normal(size=gradient.shape)
        made.append(Projection(a, None if half == "B" else gradient, gradient if half == "B" else None))
    return Layer0(inputs, tuple(made)), there


@pytest.mark.parametrize(("half", "tokens"), [("B", 1), ("B", 13), ("A", 13), ("A", 21)])
def test_the_span_names_exactly_the_tokens_that_were_there(half: str, tokens: int) -> None:
    made, there = layer(tokens, half=half)
    scores, span = token_scores(made)
    assert span
    assert scores[there].min() > -1e-6 and scores[~there].max() < -1e-3


@pytest.mark.parametrize(("half", "tokens", "noise"), [("B", 60, 0.0), ("A", 80, 0.0), ("B", 8, 30.0)])
def test_too_many_tokens_or_noise_leave_no_span(half: str, tokens: int, noise: float) -> None:
    made, there = layer(tokens, half=half, noise=noise)
    scores, span = token_scores(made)
    assert not span
    assert auc(scores[there], scores[~there]) < 0.9


def test_the_first_step_of_adam_hides_no_gradient_and_the_second_does() -> None:
    wanted = torch.randn(400, generator=torch.Generator().manual_seed(1)) * 1e-4
    parameter = torch.nn.Parameter(torch.zeros(400))
    optimizer = torch.optim.AdamW([parameter], lr=2e-3, weight_decay=0.0)
    seen = []
    for factor in (1.0, 0.3):
        parameter.grad = wanted * factor
        optimizer.step()
        seen.append(invert_first_adam_step(parameter.detach().double().numpy(), rate=2e-3))
    errors = [np.abs(found - wanted.numpy()) / np.abs(wanted.numpy()) for found in seen]
    assert np.median(errors[0]) < 0.01
    assert np.median(errors[1]) > 0.5


@pytest.fixture(scope="module", params=["ffa", "ab"])
def scene(request: pytest.FixtureRequest) -> Scene:
    options = replace(TINY, federations=(5,))
    setting = attack_setting(shipped_base(), options, seed=1, kind="causal")
    return Scene.of(setting.with_profile(adapter__mode=request.param), options)


def test_a_plain_gradient_gives_the_words_away_and_a_masked_one_does_not(scene: Scene) -> None:
    plain = scene.row("plain", 1, scene.plain_step(1, scene.sites[0]), [], rounded=True)
    assert plain["span"] and plain["recovered"] > 0.9
    assert plain["guesser_recovered"] < 0.5
    uploads = [(scene.session(1, scene.sites[:3], n)[0], scene.uniform(1, n)) for n in range(8)]
    masked = scene.draws_row("masked", 1, uploads, rounded=True)
    assert masked["recovered"] < 0.1
    assert masked["auc"]["low"] < 0.5 < masked["auc"]["high"]


def test_a_sum_names_fewer_words_of_a_site_and_noise_none(scene: Scene) -> None:
    two = scene.row("sum", 1, scene.opened_sum(1, scene.sites[:2]), [], sites=2, rounded=True)
    assert two["recovered_of_any_site"] > 0.9, "of two sites the union is named, not whose it is"
    five = scene.row("sum", 1, scene.opened_sum(1, scene.sites[:5]), [], sites=5, rounded=True)
    assert five["recovered"] < 0.5
    private = scene.row("private", 1, scene.private_step(1, 1.0, scene.sites[0], 0), [])
    assert not private["span"] and private["recovered"] < 0.1


def test_a_secret_that_was_learned_is_exposed_and_extracted() -> None:
    setting = attack_setting(shipped_base(), TINY, seed=1, kind="causal")
    victim = victim_of(setting, TINY)
    learner, initial = victim.prepared.learner, victim.prepared.made.initial
    (secret,) = (s for s in secrets(each=1, repetitions=(8,)) if s.kind == "labels")
    others = [secret.note(value) for value in secret.alternatives(0)]
    bits = []
    for steps in (0, 40):
        load_adapter(learner.model, initial)
        if steps:
            terms = TrainTerms(local_epochs=steps, batch_size=8, learning_rate=1e-2)
            train_local(learner, learner.samples(secret.notes(), ("ner",)), terms, seed=1)
        own, *rest = note_losses(learner, [secret.note(), *others])
        bits.append(exposure(float(own), np.asarray(rest)))
        extracted = read_out(learner, secret)
    assert bits[1] == pytest.approx(6) and bits[0] < 6
    assert extracted == 1


def test_the_mechanism_costs_what_is_claimed() -> None:
    terms = private_terms(AttackOptions(), 8.0)
    assert 7900 < terms.epsilon_milli <= 8000
    assert private_terms(AttackOptions(), 2.0).noise_milli > terms.noise_milli


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Path]:
    """Everything but the inversion, on a random encoder: figures mean nothing, the way to them does."""
    base, work = write_encoder(tmp_path_factory.mktemp("base")), tmp_path_factory.mktemp("work")
    return (
        run_attacks(base=base, attacks=NO_INVERSION, options=TINY, work=work, show_progress=False),
        base,
        work,
    )


NO_INVERSION = ("exposure", "membership", "poisoning", "audit")


def test_rows_say_what_they_are_of(finished: tuple[dict[str, Any], Path, Path]) -> None:
    result, _, _ = finished
    assert result["repeat"]["code_digest"] == code_digest()
    assert {(r["way"], r["epsilon_target"]) for r in result["audit"]} == {
        (way, epsilon) for way in ("single", "federated") for epsilon in (None, 8.0)
    }
    for row in result["audit"]:
        if row["epsilon_claimed"] is not None:
            assert row["epsilon_at_least"] <= row["epsilon_claimed"]
    assert {r["way"] for r in result["exposure"]} == {"untrained", "single", "federated"}
    assert len({r["attack"] for r in result["membership"]}) >= 2


def test_a_scaled_update_is_refused_by_the_bounds_and_not_without(
    finished: tuple[dict[str, Any], Path, Path],
) -> None:
    rows = {row["lie"]: row for row in finished[0]["poisoning"]}
    scaled = rows["scaled x10000"]
    assert (scaled["refused_bounds"], scaled["refused_vote"]) == (1, 1)
    assert scaled["f1_bounds"] == scaled["f1_before"]
    assert (scaled["refused_nothing"], scaled["refused_clip"]) == (0, 0)
    assert rows["none"]["refused_bounds"] == 0
    assert rows["noise at the bound"]["refused_bounds"] == 0, "within the bounds a liar is not found by them"


def test_a_second_run_finds_everything_and_says_the_same(finished: tuple[dict[str, Any], Path, Path]) -> None:
    result, base, work = finished
    before = {file: file.stat().st_mtime_ns for file in work.glob("*/result.json")}
    again = run_attacks(base=base, attacks=NO_INVERSION, options=TINY, work=work, show_progress=False)
    assert {file: file.stat().st_mtime_ns for file in work.glob("*/result.json")} == before
    assert all(again[name] == result[name] for name in NO_INVERSION)


def test_the_page_shows_a_table_for_each_attack(
    finished: tuple[dict[str, Any], Path, Path], tmp_path: Path
) -> None:
    result = finished[0]
    tables = attack_tables(result)
    assert len(tables) == len(NO_INVERSION)
    assert all(len(row) == len(table.head) for table in tables for row in table.rows)
    (tmp_path / "attacks.json").write_text(json.dumps(result))
    assert write_report(tmp_path, tmp_path / "page.html", plots=tmp_path / "plots") == ["attacks"]
    page = (tmp_path / "page.html").read_text()
    assert all(table.title in page for table in tables)
    assert {file.stem for file in (tmp_path / "plots").glob("*.svg")} == {
        "attacks-exposure", "attacks-poisoning",
    }  # fmt: skip


def test_what_cannot_be_attacked_is_one_line(tmp_path: Path) -> None:
    base = write_encoder(tmp_path / "base")
    with pytest.raises(ConfigError, match="there is no attack 'nothing'"):
        run_attacks(base=base, attacks=["nothing"], options=TINY)
    with pytest.raises(ConfigError, match="inversion knows causal models"):
        run_attacks(base=base, attacks=["inversion"], options=TINY)
    command = ["bench", "attacks", "--base", str(base), "--attack", "audit", "--sites", "2"]
    done = CliRunner().invoke(build_app(command), command)
    assert done.exit_code != 0 and "--sites lies in 3..10" in str(done.exception)

"""The state of the server's optimiser at a site: derived, kept, found again, and no other one believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit.errors import LawError
from fedmedlora_site.bases import Bases
from fedmedlora_site.errors import FolderError
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.round_steps import RoundSteps
from fedmedlora_testkit.rehearsal import small_adapter
from fedmedlora_testkit.stage import Stage, play, reasons
from fedmedlora_testkit.studies import make_study

ADAM = {"optimiser": "adam", "beta1_milli": 900, "beta2_milli": 990, "adaptivity_micro": 1000}
ADAPTER = small_adapter(40)
STUDY = make_study(
    initial_digest=ADAPTER.digest,
    dimension=40,
    overrides={"aggregation__server": ADAM, "aggregation__server_learning_rate_milli": 10},
)


def ring(number: int) -> bytes:
    codec = STUDY.codec()
    total = np.zeros(STUDY.packing().count, dtype=np.uint32)
    for weight in (8000, 16_000, 32_000):
        delta = np.full(40, 0.001 * number, dtype=np.float32)
        total += codec.encode(delta, weight=weight, words=lambda _, n: np.zeros(n, np.uint32), extras=(0,))
    return b"".join(STUDY.packing().frames_of(total))


def opened(root: Path) -> Bases:
    ADAPTER.save(root / "initial")
    return Bases(STUDY, root / "initial", root / "adapters")


def advanced(bases: Bases, base: str, number: int) -> str:
    found = bases.derive(base, ring(number), round_number=number, sites=3)
    bases.keep(found, round_number=number)
    return found.digest


def test_a_restarted_site_goes_on_from_the_state_it_kept(tmp_path: Path) -> None:
    # R4.9.5
    bases = opened(tmp_path)
    one = advanced(bases, ADAPTER.digest, 1)
    again = opened(tmp_path)
    assert advanced(bases, one, 2) == advanced(again, one, 2)


def test_a_round_that_was_not_taken_leaves_the_state_of_its_base(tmp_path: Path) -> None:
    bases = opened(tmp_path)
    one = advanced(bases, ADAPTER.digest, 1)
    state = bases.state(one)
    assert state is not None
    before = state.digest
    two = advanced(bases, one, 2)
    bases.forget(two)
    after = bases.state(one)
    assert after is not None
    assert after.digest == before
    assert advanced(bases, one, 2) == two


def test_an_average_of_nothing_moves_the_state_and_not_the_adapter(tmp_path: Path) -> None:
    """A site that was away must not take the unmoved adapter for a round that it has computed."""
    bases = opened(tmp_path)
    found = bases.derive(ADAPTER.digest, ring(0), round_number=1, sites=3)
    assert found.digest == ADAPTER.digest
    assert found.state_digest != found.state_before
    assert bases.holds_after(ADAPTER.digest, found.state_before)
    assert not bases.holds_after(ADAPTER.digest, found.state_digest)
    bases.keep(found, round_number=1)
    assert bases.holds_after(ADAPTER.digest, found.state_digest)
    assert not bases.holds_after("0" * 64, found.state_digest)
    assert opened(tmp_path).holds_after(ADAPTER.digest, found.state_digest)


@pytest.mark.parametrize("damage", ["lost", "changed", "of another round"])
def test_an_adapter_without_its_state_counts_as_missing(tmp_path: Path, damage: str) -> None:
    """It is derived again from the published sums, as a damaged adapter is."""
    bases = opened(tmp_path)
    one = advanced(bases, ADAPTER.digest, 1)
    two = advanced(bases, one, 2)
    path = bases.folder(two) / "optimiser.safetensors"
    if damage == "lost":
        path.unlink()
    elif damage == "changed":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes((bases.folder(one) / path.name).read_bytes())
    again = opened(tmp_path)
    assert again.holds(one)
    assert not again.holds(two)
    assert advanced(again, one, 2) == two
    assert opened(tmp_path).holds(two), "what was damaged is replaced"


def test_a_state_changed_while_the_site_runs_is_not_gone_on_from(tmp_path: Path) -> None:
    bases = opened(tmp_path)
    one = advanced(bases, ADAPTER.digest, 1)
    advanced(bases, one, 2)
    (bases.folder(one) / "optimiser.digest").write_text("0" * 64)
    with pytest.raises(FolderError, match="changed on disk"):
        bases.state(one)


STAGED: dict[str, Any] = {"aggregation__server": ADAM}


def test_an_honest_round_with_an_optimiser_is_accepted(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        await stage.round()

    stage = play(tmp_path, scene, **STAGED)
    assert reasons(stage) == []
    closed = [found.state for found in stage.log.state.closed_rounds]
    state = Holdings.open(stage.root).bases.state(stage.log.state.base)
    assert state is not None
    assert state.digest == closed[-1] != closed[0]


async def publish_another_state(stage: Stage) -> None:
    """The coordinator has moved its optimiser otherwise: base and delta are true, the state is not."""
    await stage.begin("unmasked")
    stage.publish(stage.ring_sum(), state="f" * 64)
    await stage.until(lambda: any(e.type in ("step.refused", "aggregate.accepted") for e in stage.heard))


def test_a_published_state_that_the_site_did_not_find_is_refused(tmp_path: Path) -> None:
    # R4.9.4: the round of the lie would close well; the next one would go somewhere else.
    stage = play(tmp_path, publish_another_state, **STAGED)
    assert reasons(stage) == [("aggregate", "bad_aggregate")]
    assert stage.log.session.disputed


def test_without_the_check_the_site_would_say_that_it_found_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the site's own comparison out, its acceptance names its own state, and the law refuses that."""
    monkeypatch.setattr(RoundSteps, "_need_own_state", staticmethod(lambda *_: None))
    with pytest.raises(LawError, match="accepts another aggregate"):
        play(tmp_path, publish_another_state, **STAGED)

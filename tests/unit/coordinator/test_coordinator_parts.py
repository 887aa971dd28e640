"""Small parts: the status table, planned deaths, settings, the decoded sum."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from fedmedlora_coordinator.errors import PeerRefusedError, RoundError, StoreError
from fedmedlora_coordinator.faults import EVENT_OF_STEP, DieAt
from fedmedlora_coordinator.model import ClosedSum, GlobalModel, sum_uploads
from fedmedlora_coordinator.settings import CoordinatorSettings, Listeners, split_address
from fedmedlora_coordinator.status import STATUS_OF, status_of
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.packing import Packing
from fedmedlora_protos.wire import Reason, WireError
from fedmedlora_testkit.studies import make_study
from fedmedlora_testkit.ward import make_adapter


def test_every_reason_has_a_status() -> None:
    assert set(STATUS_OF) == set(Reason)
    assert grpc.StatusCode.OK not in STATUS_OF.values()


def test_an_error_of_our_own_tells_the_peer_nothing() -> None:
    assert status_of(ValueError("patient 17"))[1] is Reason.INTERNAL
    assert status_of(StoreError("/disk/full"))[:2] == (grpc.StatusCode.UNAVAILABLE, Reason.STOPPING)
    assert status_of(WireError("note"))[1] is Reason.MALFORMED
    code, reason, check = status_of(PeerRefusedError(Reason.LAW_REFUSED, check="E5", detail="x"))
    assert (code, reason, check) == (grpc.StatusCode.FAILED_PRECONDITION, Reason.LAW_REFUSED, "E5")


def test_a_planned_death_strikes_once_at_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number))
    plan = DieAt.parse("share:2:after")
    for event, number, moment in (
        ("shares.fixed", 1, "after"),
        ("shares.fixed", 2, "before"),
        ("keys.broadcast", 2, "after"),
    ):
        plan.strike(event, number, moment)  # type: ignore[arg-type]
    assert killed == []
    plan.strike("shares.fixed", 2, "after")
    assert killed == [signal.SIGKILL]


@pytest.mark.parametrize(
    "text", ["", "share", "share:0", "share:x", "sleep:1", "share:1:during", "share:1:after:x"]
)
def test_a_planned_death_must_name_step_round_and_moment(text: str) -> None:
    with pytest.raises(ConfigError, match="die-at"):
        DieAt.parse(text)


def test_every_step_has_a_write_to_die_at() -> None:
    steps = {"train", "advertise", "share", "upload", "survivors", "unmask", "aggregate", "vote", "tally"}
    assert set(EVENT_OF_STEP) == steps
    assert DieAt.parse("train:1").moment == "before"


def test_settings_survive_their_file(tmp_path: Path) -> None:
    listeners = Listeners(
        name='North "Sea" \\',
        address="[::1]:1",
        enrolment_address="h:2",
        listen="h:3",
        enrolment_listen="h:4",
    )
    settings = CoordinatorSettings(coordinator=listeners)
    (tmp_path / "c.toml").write_text(settings.to_toml())
    assert CoordinatorSettings.load(tmp_path / "c.toml") == settings
    assert split_address("[::1]:1") == ("::1", 1)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("grace_seconds = 120.0", "grace_seconds = 0", "greater than 0"),
        ('listen = "h:3"', 'listen = "h"', "HOST:PORT"),
        ('"shred"', '"burn"', "evidence.after_round"),
        ("[timing]", "[timings]", "did you mean 'timing'"),
    ],
)
def test_bad_settings_are_one_line(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    listeners = Listeners(
        name="n", address="h:1", enrolment_address="h:2", listen="h:3", enrolment_listen="h:4"
    )
    text = CoordinatorSettings(coordinator=listeners).to_toml()
    assert old in text
    (tmp_path / "c.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=sentence) as caught:
        CoordinatorSettings.load(tmp_path / "c.toml")
    assert "\n" not in str(caught.value)


def model() -> GlobalModel:
    adapter = make_adapter()
    return GlobalModel(make_study(initial_digest=adapter.digest, dimension=adapter.dimension), adapter)


def encoded(values: np.ndarray[Any, Any], weight: int, clipped: int = 0) -> np.ndarray[Any, Any]:
    codec = make_study(dimension=12).codec()
    return codec.encode(
        values.astype(np.float32),
        weight=weight,
        words=lambda start, count: np.zeros(count, np.uint32),
        extras=(clipped,),
    )


def test_a_sum_leads_to_the_same_step_every_time() -> None:
    total = encoded(np.full(12, 0.5), 100) + encoded(np.full(12, -0.25), 300)
    first, second = model(), model()
    step = first.step(total.copy(), round_number=1, survivors=2)
    assert step.weight_sum == 400
    assert np.allclose(step.vector, (0.5 * 100 - 0.25 * 300) / 400, atol=1e-5)
    second.replay([ClosedSum(1, total, 2, step.next_base, None)])
    assert second.digest == step.next_base
    assert first.digest != step.next_base, "a step that was only computed is not taken"


def test_a_sum_that_no_clipped_updates_give_is_refused() -> None:
    total = encoded(np.full(12, 0.5), 100)
    total[3] = 0x7FFFFF
    with pytest.raises(RoundError, match="outside"):
        model().step(total, round_number=1, survivors=1)
    total[12] = 0
    with pytest.raises(RoundError, match="does not decode"):
        model().step(total, round_number=1, survivors=1)
    heavy = encoded(np.zeros(12), 65536) + encoded(np.zeros(12), 65536)
    with pytest.raises(RoundError, match="outside"):
        model().step(heavy, round_number=1, survivors=1)


def test_a_replay_that_does_not_lead_where_the_log_says_is_refused() -> None:
    with pytest.raises(StoreError, match="does not lead"):
        model().replay([ClosedSum(1, encoded(np.full(12, 0.5), 100), 1, "0" * 64, None)])


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_uploads_are_added_frame_by_frame_and_the_sum_does_not_depend_on_threads(bits: int) -> None:
    packing = Packing(bits, 3 * (1 << 20) // (bits // 8) + 5)
    drawn = np.random.default_rng(1)
    vectors = [drawn.integers(0, 2**32, packing.count, dtype=np.uint32) for _ in range(3)]
    uploads = {str(number): list(packing.frames_of(vector)) for number, vector in enumerate(vectors)}
    sums = []
    for threads in (1, 2):
        total = np.full(packing.count, 77, dtype=np.uint32)
        sum_uploads(total, packing, uploads, lambda digest, at: uploads[digest][at], threads=threads)
        sums.append(list(packing.frames_of(total)))
    assert sums[0] == sums[1] == list(packing.frames_of(vectors[0] + vectors[1] + vectors[2]))


@pytest.mark.parametrize("chunk", [b"\0" * 8, b"\0" * 10, b"\0" * 7, b""])
def test_an_upload_of_another_length_is_refused(chunk: bytes) -> None:
    with pytest.raises(RoundError, match="does not fit"):
        sum_uploads(np.zeros(3, dtype=np.uint32), Packing(24, 3), ["a"], lambda *_: chunk)


def test_clipped_shares_that_no_site_can_have_are_refused() -> None:
    # R4.5.6
    step = model().step(
        encoded(np.zeros(12), 100, 40) + encoded(np.zeros(12), 300, 90), round_number=1, survivors=2
    )
    assert step.clipped_permille == 65.0
    total = encoded(np.zeros(12), 100, 1000)
    total[-1] += 1
    with pytest.raises(RoundError, match="outside"):
        model().step(total, round_number=1, survivors=1)


def test_a_step_taken_changes_places_with_the_adapter_before_it() -> None:
    taken, replayed = model(), model()
    before = taken.vector
    total = encoded(np.full(12, 0.5), 100) + encoded(np.full(12, -0.25), 300)
    place = taken.accumulator(1)
    np.copyto(place, total)
    step = taken.step(place, round_number=1, survivors=2)
    assert taken.digest == model().digest, "a step that was only computed is not taken"
    taken.take(step)
    assert np.shares_memory(taken.vector, place)
    assert np.shares_memory(taken.accumulator(1), before)
    replayed.replay([ClosedSum(1, total, 2, step.next_base, None)])
    assert replayed.vector.tobytes() == taken.vector.tobytes()
    assert taken.digest == step.next_base


def test_a_study_with_another_initial_adapter_is_refused() -> None:
    with pytest.raises(ConfigError, match="initial adapter"):
        GlobalModel(make_study(dimension=12), make_adapter())

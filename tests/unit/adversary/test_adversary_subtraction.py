"""A second sum of one base with one site fewer: the difference is that site's update, exactly.

A site that dies around its opening must not be led into it (R5.4.3, R5.4.5).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmedlora_audit.law import fold
from fedmedlora_site import mirror as mirror_module
from fedmedlora_site.markers import Markers
from fedmedlora_site.session import LiveSession
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_testkit import audit_log
from fedmedlora_testkit.stage import Stage, play, reasons
from fedmedlora_testkit.stage_site import OTHERS


class Killed(BaseException):
    """The process is gone at this very place."""


async def to_the_agreements(stage: Stage) -> None:
    await stage.begin("agreed")


async def another_attempt(stage: Stage) -> None:
    """The others erase and advertise in a new attempt of the round; waits for what the site makes of it."""
    first = stage.log.session
    for site in OTHERS:
        if site not in first.responses:
            stage.others[site].erase()
            stage.log.erase(site, first.sid)
    stage.log.open_session()
    session = stage.log.session
    for site in OTHERS:
        live = LiveSession(
            stage.log.terms,
            site,
            round_number=session.round,
            attempt=session.attempt,
            purpose=session.purpose,
            base=session.base,
        )
        stage.others[site] = live
        stage.keep(site, "keys", live.advertise())
        stage.log.advertise(site)
    stage.say()
    await stage.until(
        lambda: "site-a" in session.advertised or any(e.type == "step.refused" for e in stage.heard)
    )


async def killed_at_the_marker(stage: Stage) -> None:
    """The site dies when it writes the marker; the coordinator, which logged no opening, tries once more."""
    await to_the_agreements(stage)
    stage.log.coordinate()
    stage.say()
    assert isinstance(await stage.ended(), Killed)
    await stage.stop()
    stage.start()
    await stage.until(lambda: any(event.type == "attempt.erased" for event in stage.heard))
    await another_attempt(stage)


def uploads(stage: Stage) -> int:
    return sum(event.type == "update.submitted" for event in stage.heard)


def test_a_site_killed_after_its_marker_sends_the_update_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R5.4.3, R5.4.5
    written = Markers.mark_released

    def write_and_die(markers: Markers, sid: str, *, update: str) -> None:
        written(markers, sid, update=update)
        raise Killed

    monkeypatch.setattr(Markers, "mark_released", write_and_die)
    stage = play(tmp_path, killed_at_the_marker)
    assert reasons(stage) == [("advertise", "spent")]
    assert uploads(stage) == 1
    assert not any(event.type == "unmask.response" for event in stage.heard)


def test_without_the_marker_the_restarted_site_would_send_its_update_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(markers: Markers, sid: str, *, update: str) -> None:
        raise Killed

    monkeypatch.setattr(Markers, "mark_released", die)

    async def scene(stage: Stage) -> None:
        await killed_at_the_marker(stage)
        await stage.shared()
        await stage.uploaded(gone=("site-d",))

    stage = play(tmp_path, scene)
    assert reasons(stage) == []
    assert uploads(stage) == 2


def test_shares_that_left_without_their_event_spend_the_update_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The payload reaches the coordinator before its event is logged: the log alone would allow a retry."""

    async def scene(stage: Stage) -> None:
        stage.wire.held_back.add("unmask.response")
        await to_the_agreements(stage)
        stage.log.coordinate()
        stage.say()
        await stage.until(lambda: "unmask.response" in stage.wire.on_their_way)
        await stage.stop()
        first = stage.log.session
        assert not first.responses
        stage.wire.held_back.clear()
        stage.start()
        await stage.until(lambda: "site-a" in first.responses)
        first.responses.clear()  # the coordinator says that it never came
        await another_attempt(stage)

    monkeypatch.setattr(audit_log, "apply", fold)
    monkeypatch.setattr(mirror_module, "apply", fold)
    stage = play(tmp_path, scene)
    assert reasons(stage) == [("advertise", "spent")]
    assert uploads(stage) == 1


def test_two_sums_of_one_base_give_the_missing_sites_update_away_without_the_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the two tests above and G37 are for: the law, the marker and the consent are taken out."""
    monkeypatch.setattr(audit_log, "apply", fold)
    monkeypatch.setattr(mirror_module, "apply", fold)
    monkeypatch.setattr(SessionSteps, "_need_unspent", lambda *_: None)
    monkeypatch.setattr(SessionSteps, "_need_consent", lambda *_: None)

    async def scene(stage: Stage) -> None:
        packing = stage.study.packing()
        await to_the_agreements(stage)
        await stage.unmasked()
        first = packing.read_bytes(stage.ring_sum())
        await another_attempt(stage)
        await stage.shared()
        await stage.uploaded(gone=("site-d",))
        await stage.agreed()
        await stage.unmasked()
        second = packing.read_bytes(stage.ring_sum())
        ring = np.uint32(2**packing.bits - 1)
        assert np.array_equal((first - second) & ring, stage.encoded(OTHERS.index("site-d")) & ring)

    assert reasons(play(tmp_path, scene)) == []

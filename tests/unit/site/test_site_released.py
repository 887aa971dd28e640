"""An update whose unmasking was released is never sent again, wherever the site dies in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_site.markers import Markers
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_site.step import StepContext
from fedmedlora_testkit.stage import Stage, play, reasons


class PowerFailureError(Exception):
    """The machine goes off."""


def die_once_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Die after a step's marker and payload are durable, and before its event is signed."""
    died: list[str] = []

    def strike(self: StepContext, at: str, round_number: int) -> None:
        if at == step and not died:
            died.append(at)
            raise PowerFailureError

    monkeypatch.setattr(StepContext, "strike", strike)


async def to_the_opening(stage: Stage) -> None:
    await stage.begin("agreed")
    stage.log.coordinate()
    stage.say()


async def killed_between_marker_and_event(stage: Stage) -> None:
    """The agent dies with the release on its disk; the coordinator tries the round again with the rest."""
    await to_the_opening(stage)
    assert isinstance(await stage.ended(), PowerFailureError)
    await stage.stop()
    assert Markers(stage.root / "markers.jsonl").released_in(f"{stage.log.terms.digest}/1")
    stage.start()
    await stage.own("attempt.erased")  # its secrets died with it
    await stage.advertised(wait=False)  # nothing was opened in the log, so the law allows attempt 2
    await stage.until(
        lambda: (
            stage.heard[-1].type in {"step.refused", "keys.advertised"}
            and stage.heard[-1].sid == stage.log.session.sid
        )
    )


def test_a_site_killed_between_release_and_event_never_offers_the_update_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R5.4.3, R5.4.5
    die_once_at(monkeypatch, "unmask")
    stage = play(tmp_path, killed_between_marker_and_event)
    assert reasons(stage) == [("advertise", "spent")]
    assert not any(event.type == "unmask.response" for event in stage.heard)


def test_without_the_check_the_update_would_be_offered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_once_at(monkeypatch, "unmask")
    monkeypatch.setattr(SessionSteps, "_need_unspent", lambda *_: None)
    stage = play(tmp_path, killed_between_marker_and_event)
    assert reasons(stage) == []
    assert [event.type for event in stage.heard].count("keys.advertised") == 2


async def killed_between_event_and_sending(stage: Stage) -> None:
    """The opening is signed and still on its way when the agent dies."""
    stage.wire.held_back = {"unmask.response"}
    await to_the_opening(stage)
    await stage.until(lambda: bool(stage.wire.on_their_way))
    await stage.stop()
    signed = sorted((stage.root / "run" / "outbox").glob("*.note"))[-1].read_bytes()
    stage.wire.held_back = set()
    stage.start()
    await stage.own("unmask.response")
    assert signed in [entry.note for entry in stage.log.entries]


def test_a_site_killed_before_sending_sends_the_very_bytes_it_signed(tmp_path: Path) -> None:
    # R5.3.1, R5.4.5
    stage = play(tmp_path, killed_between_event_and_sending)
    assert [event.type for event in stage.heard].count("unmask.response") == 1
    assert reasons(stage) == []


def test_a_site_killed_between_agreement_and_event_agrees_to_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R5.4.2, R5.4.3: the marker stands, the event was never signed
    die_once_at(monkeypatch, "survivors")

    async def scene(stage: Stage) -> None:
        await stage.begin("uploaded")
        stage.log.coordinate()
        stage.say()
        assert isinstance(await stage.ended(), PowerFailureError)
        await stage.stop()
        (consent,) = Markers(stage.root / "markers.jsonl").consents(stage.log.session.base)
        assert consent.survivors == ("site-a", "site-b", "site-c", "site-d")
        stage.start()
        await stage.own("attempt.erased")
        assert not any(event.type == "survivors.agreed" for event in stage.heard)

    assert reasons(play(tmp_path, scene)) == []

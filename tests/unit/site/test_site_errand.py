"""New keys and leaving at one real site: killed at every moment, it goes on with keys that the log knows."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit.cosignature import checkpoint_of, open_line
from fedmedlora_site import errand
from fedmedlora_site.errand import Errand, Message
from fedmedlora_site.errors import FolderError, SiteError
from fedmedlora_site.holdings import FolderLock, Holdings
from fedmedlora_site.key_ring import NEXT, KeyRing, Kind
from fedmedlora_site.outbox import Outbox
from fedmedlora_testkit.stage import Stage, play
from fedmedlora_testkit.stage_site import OWN, staged_study


class Killed(BaseException):
    """The process was killed (a BaseException: nothing may handle it)."""


def messages(*kinds: Kind) -> list[Message]:
    return [Message("key.rotated", kind, partial(errand._rotation, kind)) for kind in kinds]


LEAVE = Message("site.left", "", lambda held: of.SiteLeft(charter=held.terms.digest))


async def go(stage: Stage, *said: Message) -> Holdings:
    """Run an errand while the agent is stopped."""
    held = Holdings.open(stage.root)
    made = Errand(held, said, client=stage.wire)
    try:
        async with asyncio.timeout(20):
            await made.run()
    finally:
        await made.close()
    held.ring.settle(held.mirror.state.book)
    return held


async def stopped_between_rounds(stage: Stage) -> None:
    await stage.opened()
    await stage.stop()
    stage.log.plan()  # there is something of the log to hear


def test_a_site_takes_part_under_its_new_keys_and_witnesses_with_them(tmp_path: Path) -> None:
    # R2.5.1, R2.5.5
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        await stage.stop()
        old = (stage.root / "keys" / "event.seed").read_bytes()
        for site in stage.names:
            for sid in sorted(stage.log.state.unspent.get(site, ())):
                stage.log.erase(site, sid)
        await go(stage, *messages("event", "witness"))
        assert (stage.root / "keys" / "event.seed").read_bytes() != old
        assert not list((stage.root / "keys").glob("*" + NEXT))
        stage.start()
        await stage.round()

    stage = play(tmp_path, scene, study=staged_study(quorum=True))
    assert stage.log.state.rounds[2].outcome == "closed"
    book = stage.log.state.book
    keys = {event.actor.key for event in stage.heard if event.round == 2}
    assert keys == {book.events[OWN].key_id}
    last = max(stage.cosigned, key=lambda note: checkpoint_of(note).size)
    open_line(stage.cosigned[last], book.key_of(OWN, "witness"), checkpoint_of(last))


KILLS: dict[str, tuple[type[Any], str, bool]] = {
    "before the new key is drawn": (KeyRing, "drawn", False),
    "after the new key is drawn": (KeyRing, "drawn", True),
    "before the event is signed": (Outbox, "sign", False),
    "after the event is signed": (Outbox, "sign", True),
    "before the receipt is kept": (Outbox, "file_receipt", False),
    "after the receipt is kept": (Outbox, "file_receipt", True),
    "before the old key goes": (KeyRing, "settle", False),
}


@pytest.mark.parametrize("again", [True, False], ids=["the command again", "the agent next"])
@pytest.mark.parametrize("moment", KILLS)
def test_a_site_killed_at_any_moment_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, again: bool
) -> None:
    # R2.5.1
    owner, name, after = KILLS[moment]
    real = getattr(owner, name)

    def killed(*args: Any, **kwargs: Any) -> None:
        if after:
            real(*args, **kwargs)
        raise Killed

    async def scene(stage: Stage) -> None:
        await stopped_between_rounds(stage)
        held = Holdings.open(stage.root)
        made = Errand(held, messages("event"), client=stage.wire)
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, killed)
            with pytest.raises(Killed):
                await made.run()
                held.ring.settle(held.mirror.state.book)
        await made.close()
        logged = OWN in {site for site, _ in stage.log.state.rotated}
        if again and not logged:
            stage.log.accept_plan("site-b")
            await go(stage, *messages("event"))
        stage.start()
        await stage.until(lambda: OWN in stage.log.state.rounds[1].ready)

    stage = play(tmp_path, scene)
    changed = [event for event in stage.heard if event.type == "key.rotated"]
    assert len(changed) <= 1
    ready = next(event for event in stage.heard if event.type == "update.ready")
    assert ready.actor.key == stage.log.state.book.events[OWN].key_id
    with_event = moment not in ("before the new key is drawn", "after the new key is drawn")
    if again or (with_event and moment != "before the event is signed"):
        assert changed, "what was signed was sent"
        assert ready.actor.key != changed[0].actor.key


def test_a_folder_with_the_keys_of_before_a_rotation_does_not_start(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stopped_between_rounds(stage)
        old = (stage.root / "keys" / "event.seed").read_bytes()
        await go(stage, *messages("event"))
        (stage.root / "keys" / "event.seed").write_bytes(old)
        with pytest.raises(FolderError, match="does not hold the key"):
            Holdings.open(stage.root)

    play(tmp_path, scene)


def test_a_key_changes_once_a_round_and_the_command_says_so(tmp_path: Path) -> None:
    # R2.5.4
    async def scene(stage: Stage) -> None:
        await stopped_between_rounds(stage)
        await go(stage, *messages("event"))
        stage.log.accept_plan("site-b")
        with pytest.raises(SiteError, match="changed in this round already"):
            await go(stage, *messages("event"))

    play(tmp_path, scene)


def test_who_left_says_nothing_more_and_its_agent_ends(tmp_path: Path) -> None:
    # R2.5.6
    async def scene(stage: Stage) -> None:
        await stopped_between_rounds(stage)
        held = await go(stage, LEAVE)
        assert held.mirror.state.remaining == stage.names
        stage.log.accept_plan("site-b")
        with pytest.raises(SiteError, match="has left the study"):
            await go(stage, *messages("event"))
        stage.start()
        assert await stage.ended() is None

    stage = play(tmp_path, scene)
    assert stage.heard[-1].type == "site.left"


def test_an_errand_waits_for_no_agent_that_runs(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        lock = FolderLock(stage.root / "run" / "agent.lock")
        try:
            with pytest.raises(FolderError, match="another agent is running"):
                await asyncio.to_thread(errand.leave, stage.root)
        finally:
            lock.release()

    play(tmp_path, scene)

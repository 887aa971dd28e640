"""Two real agents, two histories: events of one do not fit the other, and one honest head shows the fork."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fedmedlora_audit import law
from fedmedlora_audit.chain import Chain
from fedmedlora_audit.event_data import LogHead, Receipt, RunClosed
from fedmedlora_audit.events import Saw, entry_of, parse_event
from fedmedlora_audit.heads import judge_heads
from fedmedlora_audit.law import fold
from fedmedlora_audit.trust import Trust
from fedmedlora_site import mirror as mirror_module
from fedmedlora_site.agent import Agent
from fedmedlora_testkit.adversary.villain import Villain, believed


def play_two(root: Path, scene: Callable[[Villain, Villain], Awaitable[None]]) -> tuple[Villain, Villain]:
    """Run site-a and site-b, each over the history that the coordinator shows it."""

    async def act() -> tuple[Villain, Villain]:
        left, right = Villain(root / "left", "site-a"), Villain(root / "right", "site-b")
        try:
            left.start()
            right.start()
            await scene(left, right)
        finally:
            await left.stop()
            await right.stop()
        return left, right

    return asyncio.run(act())


async def forwarded(left: Villain, right: Villain) -> None:
    """Show site-b the keys that site-a advertised under another history."""
    await left.begin("advertised")
    await right.opened()
    await right.trained()
    right.log.open_session()
    note = next(
        e.note for e in left.log.entries if e.event.type == "keys.advertised" and e.event.actor.id == "site-a"
    )
    event = parse_event(note).event
    log = right.log
    entry = entry_of(log.tree.size, note, event)
    fold(log.state, entry)
    log.tree.append(entry.leaf)
    log.entries.append(entry)
    log.chains["site-a"] = Chain(event.seq, entry.leaf.hex())
    receipt = Receipt(site="site-a", seq=event.seq, type=event.type)
    log.force("coordinator", "receipt", receipt, refs=[entry.leaf.hex()], round=1)
    right.say()
    await right.settle(lambda: believed(right) and right.signed("keys.advertised"))


def findings(tmp_path: Path, left: Villain, right: Villain) -> set[tuple[str, str]]:
    """What a reviewer of the left history finds with the heads and journals of both sites."""
    folder = tmp_path / "heads"
    for stage in (left, right):
        target = folder / stage.site
        target.mkdir(parents=True)
        shutil.copy(stage.root / "run" / "mirror" / "checkpoint", target / "checkpoint")
        shutil.copy(stage.root / "run" / "journal.jsonl", target / "journal.jsonl")
    trust = Trust.from_terms(left.log.terms, genesis=left.log.entries[0].leaf)
    judged = judge_heads(folder, trust, left.log.tree, [e.event for e in left.log.entries])
    assert judged.heads == 2
    return {
        (check, site)
        for check, sentence, _ in judged.findings
        for site in ("site-a", "site-b")
        if site in sentence
    }


def test_an_event_made_under_another_history_is_refused_and_the_heads_show_the_fork(tmp_path: Path) -> None:
    # R5.1.1, R5.2.1: the event names the head that its author has verified
    left, right = play_two(tmp_path, forwarded)
    assert [row.reason for row in right.journal()] == ["log_forked"]
    assert right.journalled == [True]
    assert not right.signed("keys.advertised")
    found = findings(tmp_path, left, right)
    assert {check for check, site in found if site == "site-b"} >= {"C6", "J1"}
    assert not {check for check, site in found if site == "site-a"}


def test_without_the_law_the_other_historys_event_would_be_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "apply", law.fold)
    left, right = play_two(tmp_path, forwarded)
    assert right.journal() == []
    assert right.signed("keys.advertised")
    # the heads still show it
    assert ("C6", "site-b") in findings(tmp_path, left, right)


async def broken_promise(stage: Villain, index_of: Callable[[int], int], signed: bool) -> None:
    """Acknowledge the agent's event and give its place in the log to another one.

    Args:
        stage: The agent under attack.
        index_of: Which index the answer says, given the true one.
        signed: The receipt says that index, too.
    """
    await stage.begin("opened")
    honest = stage.wire.submit

    async def submit(note: bytes) -> tuple[bytes, int]:
        event = parse_event(note).event
        if event.type != "plan.accepted":
            return await honest(note)
        log = stage.log
        entry = entry_of(log.tree.size, note, event)
        data = Receipt(site=event.actor.id, seq=event.seq, type=event.type)
        index = index_of(entry.index)
        saw = Saw(size=index if signed else entry.index, root=log.tree.root().hex())
        receipt = log.draft("coordinator", "receipt", data, refs=[entry.leaf.hex()], round=1, saw=saw)
        log.accept_plan("site-b")
        stage.say()
        return receipt, index

    stage.wire.submit = submit  # type: ignore[method-assign]
    stage.log.plan()
    stage.say()
    await stage.settle(lambda: believed(stage) and len(stage.log.state.rounds[1].accepted) == 1)
    log = stage.log  # a later event shows that the agent is past the lie
    log.ready("site-b")
    stage.say()
    await stage.settle(lambda: believed(stage))


def withheld(root: Path, index_of: Callable[[int], int] = int, *, signed: bool = False) -> Villain:
    async def act() -> Villain:
        stage = Villain(root)
        try:
            stage.start()
            await broken_promise(stage, index_of, signed)
        finally:
            await stage.stop()
        return stage

    return asyncio.run(act())


def test_an_acknowledged_event_that_the_log_lacks_stops_the_site(tmp_path: Path) -> None:
    # R5.1.2
    stage = withheld(tmp_path)
    assert [row.reason for row in stage.journal()] == ["log_forked"]
    assert "promised" in stage.journal()[0].sentence


def test_without_the_promises_a_withheld_event_would_go_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Agent, "_check_promises", lambda self: None)
    assert withheld(tmp_path).journal() == []


@pytest.mark.parametrize("index_of", [lambda _: 0, lambda at: at - 1, lambda at: at + 1, lambda _: 1 << 52])
def test_an_index_that_the_receipt_does_not_say_stops_the_site(
    tmp_path: Path, index_of: Callable[[int], int]
) -> None:
    # R5.1.2: only what is signed can be a promise
    stage = withheld(tmp_path, index_of)
    assert [row.reason for row in stage.journal()] == ["log_forked"]
    assert "receipt" in stage.journal()[0].sentence


def test_without_the_comparison_a_false_index_would_hide_the_withheld_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Agent, "_check_receipt", lambda *_: None)
    assert withheld(tmp_path, lambda _: 1 << 52).journal() == []


def test_a_receipt_signed_for_an_entry_that_is_another_event_stops_the_site(tmp_path: Path) -> None:
    stage = withheld(tmp_path, lambda _: 0, signed=True)
    assert [row.reason for row in stage.journal()] == ["log_forked"]
    assert "entry 0 is not the event" in stage.journal()[0].sentence


@pytest.mark.parametrize("believing", [False, True])
def test_a_receipt_for_an_entry_that_the_closed_log_never_reached_stops_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, believing: bool
) -> None:
    if believing:
        monkeypatch.setattr(Agent, "_check_promises", lambda self: None)

    async def act() -> Villain:
        stage = Villain(tmp_path)
        try:
            stage.start()
            await broken_promise(stage, lambda _: 1 << 52, signed=True)
            assert stage.journal() == []
            log = stage.log
            log.abort("operator")
            log.say("coordinator", "run.closed", RunClosed(rounds=0))
            log.say("coordinator", "log.closed", LogHead(**log.head().model_dump()))
            stage.say()
            await stage.settle(lambda: believed(stage))
        finally:
            await stage.stop()
        return stage

    told = [row.sentence for row in asyncio.run(act()).journal()]
    assert ["never reached" in sentence for sentence in told] == ([] if believing else [True])

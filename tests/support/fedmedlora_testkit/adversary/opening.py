"""Attacks on agreement and opening, on order, and with what was sent before."""

from __future__ import annotations

from typing import Any

from fedmedlora_audit import event_data as of
from fedmedlora_audit.events import entry_of, parse_event
from fedmedlora_audit.law import fold
from fedmedlora_site.markers import Consent, Markers
from fedmedlora_site.session import LiveSession
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_testkit.adversary.lists import LOW_T, NO_LIST_CHECK
from fedmedlora_testkit.adversary.registry import LogAttack, attack
from fedmedlora_testkit.adversary.villain import Villain, believed
from fedmedlora_testkit.stage_site import ADAPTER

NO_REQUEST_CHECK = (LiveSession, "check_request", lambda *_, **__: None)
NO_SIGNATURE_CHECK = (SessionSteps, "_need_signatures", lambda *_: None)


def opened(stage: Villain) -> bool:
    """The agent opened shares."""
    return stage.signed("unmask.response")


def request(gone: tuple[str, ...] = (), **changes: Any) -> Any:
    """Ask for other openings than the agreed survivors give."""

    async def play(stage: Villain) -> None:
        await stage.begin("shared")
        await stage.uploaded(gone)
        await stage.agreed()
        fields = stage.log.request_fields(**changes)
        stage.force("unmask.request", fields.pop("data"), **fields)
        await stage.settle(lambda: opened(stage))

    return play


ALL = ("site-a", "site-b", "site-c", "site-d")
for _id, _what, _law, _own, _play, _without in (
    (
        "both-seeds-one-request",
        "asks for both seeds of one site in one request",
        "U2",
        ("unmask", "both_seeds"),
        request(pair_of=("site-b",)),
        (NO_REQUEST_CHECK,),
    ),
    (
        "pair-key-of-a-survivor",
        "calls a survivor dropped when it asks for seeds",
        "U3",
        ("unmask", "both_seeds"),
        request(self_of=("site-a", "site-c", "site-d"), pair_of=("site-b",)),
        (NO_REQUEST_CHECK,),
    ),
    (
        "self-seed-of-the-dropped",
        "keeps the late upload of a dropped site and asks for its self seed",
        "U3",
        ("unmask", "both_seeds"),
        request(("site-d",), self_of=ALL, pair_of=()),
        (NO_REQUEST_CHECK,),
    ),
    (
        "few-agreements",
        "asks for shares with fewer than T agreements",
        "U1",
        ("unmask", "short_survivors"),
        request(signers=("site-a", "site-b")),
        (NO_LIST_CHECK, LOW_T),
    ),
):
    attack(LogAttack(_id, _what, "G34", _law, _own, _play, opened, _without))


async def invented_agreements(stage: Villain) -> None:
    await stage.begin("uploaded")
    log = stage.log
    log.coordinate()
    stage.say()
    await stage.settle(lambda: stage.signed("survivors.agreed"))
    fields = log.request_fields(signers=ALL, refs=list(log.session.agreed.values()))
    stage.force("unmask.request", fields.pop("data"), **fields)
    await stage.settle(lambda: opened(stage))


attack(
    LogAttack(
        "invented-agreements",
        "names sites as signers that agreed to nothing",
        "G34",
        "U1",
        ("unmask", "wrong_digest"),
        invented_agreements,
        opened,
        (NO_SIGNATURE_CHECK,),
    )
)


async def agreements_to_another_sum(stage: Villain) -> None:
    """The others were shown other survivors than this site."""
    await stage.begin("uploaded")
    log = stage.log
    log.coordinate()
    stage.say()
    await stage.settle(lambda: stage.signed("survivors.agreed"))
    for site in stage.names:
        log.force(site, "survivors.agreed", log.consent_data(h_u3="0" * 64), round=log.number)
    fields = log.request_fields()
    stage.force("unmask.request", fields.pop("data"), **fields)
    await stage.settle(lambda: opened(stage))


attack(
    LogAttack(
        "split-survivors",
        "shows different survivor sets to different sites",
        "G34",
        "U1",
        ("unmask", "wrong_digest"),
        agreements_to_another_sum,
        opened,
        (NO_SIGNATURE_CHECK,),
    )
)


async def survivors_before_inbox(stage: Villain) -> None:
    await stage.begin("shared")
    log = stage.log
    stage.force("survivors.fixed", log.u3_data(u3=log.rows(log.session.shares)))
    await stage.settle(lambda: believed(stage))


attack(
    LogAttack(
        "reordered-steps",
        "fixes the survivors before the inbox",
        "G34",
        "R1",
        None,
        survivors_before_inbox,
        believed,
    )
)


def replayed(type_: str, until: str) -> Any:
    """Say an old event of another site again."""

    async def play(stage: Villain) -> None:
        await stage.begin(until)
        log = stage.log
        note = next(e.note for e in log.entries if e.event.type == type_ and e.event.actor.id == "site-b")
        entry = entry_of(log.tree.size, note, parse_event(note).event)
        fold(log.state, entry)
        log.tree.append(entry.leaf)
        log.entries.append(entry)
        log.force(
            "coordinator",
            "receipt",
            of.Receipt(site="site-b", seq=entry.event.seq, type=entry.event.type),
            refs=[entry.leaf.hex()],
            round=entry.event.round,
        )
        stage.say()
        await stage.settle(lambda: believed(stage))

    return play


for _type, _until in (
    ("keys.advertised", "advertised"),
    ("shares.sent", "shared"),
    ("survivors.agreed", "agreed"),
):
    attack(
        LogAttack(
            f"replayed-{_type.replace('.', '-')}",
            f"says an old {_type} of a site again",
            "G36",
            "E4",
            None,
            replayed(_type, _until),
            believed,
        )
    )


async def second_request(stage: Villain) -> None:
    """Ask for the other seed of a site once the first was opened."""
    await stage.begin("unmasked")
    fields = stage.log.request_fields(self_of=("site-a", "site-c", "site-d"), pair_of=("site-b",))
    stage.force("unmask.request", fields.pop("data"), **fields)
    await stage.settle(lambda: believed(stage))


attack(
    LogAttack(
        "both-seeds-two-requests",
        "asks for the other seed of a site in a second request",
        "G34",
        "U4",
        None,
        second_request,
        believed,
    )
)


async def request_after_the_end(stage: Villain) -> None:
    await stage.begin("unmasked")
    log, fields = stage.log, stage.log.request_fields()
    stage.publish(stage.ring_sum())
    await stage.closed()
    note = log.draft("coordinator", "unmask.request", fields.pop("data"), **fields)
    entry = entry_of(log.tree.size, note, parse_event(note).event)
    log.tree.append(entry.leaf)
    log.entries.append(entry)
    stage.say()
    await stage.settle(lambda: believed(stage))


attack(
    LogAttack(
        "request-after-the-end",
        "asks for shares of a round that is closed",
        "G37",
        "R1",
        None,
        request_after_the_end,
        believed,
    )
)


# -- what was used before


async def used_base(stage: Villain) -> None:
    """The base was summed over other sites in an attempt, a round, a study or a log that this one hides."""
    other = Consent("9" * 64, ADAPTER.digest, ("site-a", "site-b", "site-c"))
    Markers(stage.root / "markers.jsonl").mark_consented(other)
    await stage.stop()
    stage.start()
    await stage.begin("uploaded")
    stage.log.coordinate()
    stage.say()
    await stage.settle(lambda: stage.signed("survivors.agreed"))


attack(
    LogAttack(
        "second-sum-of-a-base",
        "asks for a second survivor set of one base in another attempt, round, study or log",
        "G37",
        None,
        ("survivors", "consent_spent"),
        used_base,
        lambda stage: stage.signed("survivors.agreed"),
        ((SessionSteps, "_need_consent", lambda *_: None),),
    )
)


async def released_update(stage: Villain) -> None:
    update = f"{stage.log.terms.digest}/1"
    Markers(stage.root / "markers.jsonl").mark_released("9" * 64, update=update)
    await stage.stop()
    stage.start()
    await stage.begin("trained")
    stage.log.open_session()
    stage.say()
    await stage.settle(lambda: stage.signed("keys.advertised"))


attack(
    LogAttack(
        "released-update",
        "wants an update again whose unmasking was released before a restart",
        "G38",
        None,
        ("advertise", "spent"),
        released_update,
        lambda stage: stage.signed("keys.advertised"),
        ((SessionSteps, "_need_unspent", lambda *_: None),),
    )
)

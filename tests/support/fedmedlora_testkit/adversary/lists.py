"""Attacks in the lists of a session: rosters, keys, inboxes, survivors, plans, and their order."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmedlora_audit import event_data as of
from fedmedlora_audit.session import list_hash, view_of
from fedmedlora_crypto.secagg.party import Party
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_site import session as session_module
from fedmedlora_site.bases import Bases
from fedmedlora_site.session import LiveSession
from fedmedlora_testkit.adversary.registry import LogAttack, Patch, attack
from fedmedlora_testkit.adversary.villain import Villain, believed, dealer_of, rows_of
from fedmedlora_testkit.secagg import take_off

NO_LIST_CHECK: Patch = (LiveSession, "_check_list", lambda *_: None)
NO_OWN_CHECK: Patch = (LiveSession, "_check_own", lambda *_: None)


# -- openings


def opening(**changes: Any) -> Any:
    async def play(stage: Villain) -> None:
        await stage.begin("trained")
        stage.force("session.opened", stage.log.opening(**changes))
        await stage.settle(lambda: stage.signed("keys.advertised"))

    return play


def advertised(stage: Villain) -> bool:
    return stage.signed("keys.advertised")


for _id, _what, _rule, _law, _own, _changes, _without in (
    (
        "short-session",
        "opens a session of fewer than T sites",
        "G33",
        "G33",
        ("advertise", "short_roster"),
        {"ready": ("site-a", "site-b")},
        (NO_LIST_CHECK,),
    ),
    (
        "invented-site",
        "opens a session with a site that is no member",
        "G32",
        "R2",
        ("advertise", "not_in_roster"),
        {"ready": ("site-a", "site-b", "site-c", "site-z")},
        (NO_LIST_CHECK,),
    ),
    (
        "unmasked-suite",
        "opens a session under a suite without masks",
        "G33",
        "G33",
        ("advertise", "wrong_charter"),
        {"suite": "plain/1"},
        ((LiveSession, "check_opening", lambda *_, **__: None),),
    ),
    (
        "foreign-sid",
        "names a session after another round's terms, to replay messages in it",
        "G36",
        "G36",
        ("advertise", "wrong_sid"),
        {"sid": "e" * 64},
        ((LiveSession, "check_opening", lambda *_, **__: None),),
    ),
    (
        "other-base-session",
        "gives one site another base than the others",
        "G36",
        "A2",
        ("advertise", "wrong_base"),
        {"base": "f" * 64},
        ((Bases, "holds", lambda *_: True),),
    ),
):
    attack(LogAttack(_id, _what, _rule, _law, _own, opening(**_changes), advertised, _without))


async def other_plan(stage: Villain) -> None:
    await stage.begin("opened")
    stage.force("round.plan", of.Base(base="f" * 64), round=1)
    await stage.settle(lambda: believed(stage))


attack(
    LogAttack(
        "other-plan", "plans a round from an adapter of its own", "G41", "A2", None, other_plan, believed
    )
)


# -- keys


def broadcast(stage: Villain, payloads: dict[str, bytes], **changes: Any) -> None:
    """Broadcast these keys as U1."""
    u1 = rows_of(payloads)
    stage.blobs.update(zip((row.digest for row in u1), (payloads[row.id] for row in u1), strict=True))
    for row in u1:  # payloads that no event named need a size that the agent knows
        if stage.agent is not None:
            stage.agent._held.mirror.object_bytes[row.digest] = len(payloads[row.id])
    stage.force("keys.broadcast", stage.log.u1_data(u1=u1, **changes))


def advertised_keys(stage: Villain) -> dict[str, bytes]:
    return {site: stage.blobs[digest] for site, digest in stage.log.session.advertised.items()}


async def short_roster(stage: Villain) -> None:
    await stage.begin("advertised")
    keys = advertised_keys(stage)
    broadcast(stage, {site: keys[site] for site in ("site-a", "site-d")})
    await stage.settle(lambda: stage.signed("shares.sent"))


LOW_T: Patch = (SessionTerms, "__post_init__", lambda self: object.__setattr__(self, "threshold", 2))

attack(
    LogAttack(
        "short-roster",
        "shows a site a list of keys with fewer than T sites",
        "G33",
        "G33",
        ("share", "short_roster"),
        short_roster,
        lambda stage: stage.signed("shares.sent"),
        (NO_LIST_CHECK, LOW_T),
    )
)


async def another_view(stage: Villain) -> None:
    await stage.begin("advertised")
    keys = advertised_keys(stage)
    few = rows_of({site: keys[site] for site in ("site-a", "site-b", "site-c")})
    stage.marked["view"] = view_of(stage.log.session.sid, few)
    broadcast(stage, keys, view=stage.marked["view"])
    await stage.settle(lambda: stage.signed("shares.sent"))


attack(
    LogAttack(
        "split-view",
        "shows different rosters to different sites under one view",
        "G36",
        "G36",
        ("share", "wrong_digest"),
        another_view,
        lambda stage: stage.signed("shares.sent", view=stage.marked["view"]),
        (
            (
                session_module,
                "view_of",
                lambda sid, u1: view_of(sid, [row for row in u1 if row.id < "site-d"]),
            ),
        ),
    )
)


async def foreign_own_keys(stage: Villain) -> None:
    await stage.begin("advertised")
    keys = advertised_keys(stage)
    keys["site-a"] = fresh(stage, "site-a").advertise()
    broadcast(stage, keys)
    await stage.settle(lambda: stage.signed("shares.sent"))


def fresh(stage: Villain, site: str) -> LiveSession:
    """Keys that the coordinator makes itself in a site's name."""
    session = stage.log.session
    return LiveSession(
        stage.log.terms,
        site,
        round_number=session.round,
        attempt=session.attempt,
        purpose=session.purpose,
        base=session.base,
    )


attack(
    LogAttack(
        "own-keys-exchanged",
        "puts keys of its own in the victim's place",
        "G35",
        "G35",
        ("share", "wrong_digest"),
        foreign_own_keys,
        lambda stage: stage.signed("shares.sent"),
        (NO_OWN_CHECK, (Party, "share", lambda self, *_: b"dealt without looking")),
    )
)


async def everybody_else_is_me(stage: Villain) -> None:
    """Put own keys in the place of all other sites, play them all, and strip the victim's upload."""
    await stage.begin("advertised")
    keys = advertised_keys(stage)
    puppets = {site: fresh(stage, site) for site in stage.names}
    keys.update({site: live.advertise() for site, live in puppets.items()})
    secrets = {site: dealer_of(live) for site, live in puppets.items()}
    broadcast(stage, keys)
    await stage.settle(lambda: stage.signed("shares.sent"))
    session = stage.log.session
    if stage.site not in session.shares:
        return
    rows = rows_of(keys)
    shares = {stage.site: stage.blobs[session.shares[stage.site]]}
    for site, live in puppets.items():
        own = next(row.digest for row in rows if row.id == site)
        shares[site] = live.share(rows, session.view, own, keys)
        stage.keep(site, "shares", shares[site])
        stage.log.share(site)
    stage.log.coordinate()
    stage.say()
    await stage.settle(lambda: stage.signed("update.submitted"))
    opened = {}
    u2 = rows_of(shares)
    for site, live in puppets.items():
        live.fix(u2, session.view, next(row.digest for row in u2 if row.id == site), shares)
        live.mask(np.zeros(4, dtype=np.uint32))
        live.agree(u2)
        opened[site] = live.open(stage.names)
    streams = [(stage.self_stream(session.view, opened), 1)]
    for site in stage.names:
        streams.append(
            stage.pair_stream(session.view, site, secrets[site], keys[stage.site], shares[stage.site])
        )
    stage.learnt = stage.in_ring(take_off(stage.upload_of(stage.site), *streams))


def read(stage: Villain) -> bool:
    """The victim's vector came out exactly."""
    return stage.learnt is not None and np.array_equal(stage.learnt, stage.secret_vector())


attack(
    LogAttack(
        "others-keys-exchanged",
        "puts keys of its own in the place of every other site",
        "G35",
        "G35",
        None,
        everybody_else_is_me,
        read,
    )
)


# -- inboxes


async def short_inbox(stage: Villain) -> None:
    """Show the victim an inbox with one colluder, and let the honest others open its self seed."""
    await stage.begin("shared")
    session = stage.log.session
    secrets = dealer_of(stage.others["site-d"])
    shares = {site: stage.blobs[digest] for site, digest in session.shares.items()}
    honest, keys = dict(session.shares), advertised_keys(stage)
    u2 = stage.log.rows(session.shares, without=("site-b", "site-c"))
    stage.force("shares.fixed", stage.log.u2_data(u2=u2))
    await stage.settle(lambda: stage.signed("update.submitted"))
    if stage.site not in session.updates:
        return
    full = stage.log.rows(honest)
    opened = {}
    for site, live in stage.others.items():  # to them the list holds everybody
        live.fix(full, session.view, honest[site], shares)
        live.mask(np.zeros(4, dtype=np.uint32))
        live.agree(full)
        opened[site] = live.open(stage.names)
    pair = stage.pair_stream(session.view, "site-d", secrets, keys[stage.site], shares[stage.site])
    streams = [(stage.self_stream(session.view, opened), 1), pair]
    stage.learnt = stage.in_ring(take_off(stage.upload_of(stage.site), *streams))


attack(
    LogAttack(
        "short-inbox",
        "with one colluder: shows the victim a short inbox and the others the whole one (n = 4)",
        "G34",
        "G34",
        ("upload", "short_inbox"),
        short_inbox,
        read,
        (NO_LIST_CHECK, LOW_T),
    )
)


async def second_inbox(stage: Villain) -> None:
    await stage.begin("shared")
    log = stage.log
    full, few = log.u2_data(), log.u2_data(u2=log.rows(log.session.shares, without=("site-d",)))
    log.force("coordinator", "shares.fixed", full, round=1)
    stage.marked["h_u2"] = list_hash(few.u2)
    stage.force("shares.fixed", few)
    await stage.settle(lambda: stage.signed("update.submitted"))


attack(
    LogAttack(
        "second-inbox",
        "fixes two lists of shares in one session",
        "G34",
        "G34",
        None,
        second_inbox,
        lambda stage: stage.signed("update.submitted", h_u2=stage.marked["h_u2"]),
    )
)


# -- survivors


def survivors(*, without: tuple[str, ...] = (), swap: bool = False, twice: bool = False) -> Any:
    async def play(stage: Villain) -> None:
        await stage.begin("uploaded")
        log = stage.log
        rows = log.rows(log.session.updates, without=without)
        if swap:
            rows = tuple(
                row.model_copy(update={"digest": "0" * 64}) if row.id == stage.site else row for row in rows
            )
        if twice:
            log.force("coordinator", "survivors.fixed", log.u3_data(), round=1)
        stage.marked["h_u3"] = list_hash(rows)
        stage.force("survivors.fixed", log.u3_data(u3=rows))
        await stage.settle(lambda: stage.signed("survivors.agreed"))

    return play


def agreed(stage: Villain) -> bool:
    return stage.signed("survivors.agreed", h_u3=stage.marked["h_u3"])


for _id, _what, _check, _own2, _play, _lifted in (
    (
        "short-survivors",
        "declares all but two sites dropped, so that a colluder subtracts itself",
        "R6",
        ("survivors", "short_survivors"),
        survivors(without=("site-b", "site-c")),
        (NO_LIST_CHECK, LOW_T),
    ),
    (
        "withheld-upload",
        "declares a site dropped and keeps its upload",
        "R6",
        None,
        survivors(without=("site-b",)),
        (),
    ),
    (
        "exchanged-upload",
        "puts other bytes in the place of the site's own upload",
        "R5",
        ("survivors", "wrong_digest"),
        survivors(swap=True),
        (NO_OWN_CHECK,),
    ),
    (
        "second-survivors",
        "fixes two survivor sets in one session",
        "G34",
        None,
        survivors(without=("site-d",), twice=True),
        (),
    ),
):
    attack(LogAttack(_id, _what, "G34", _check, _own2, _play, agreed, _lifted))

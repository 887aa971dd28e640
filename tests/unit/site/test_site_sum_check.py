"""The agent against a coordinator that publishes another sum than that of the uploads (PROTOCOL §4.6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit.blob import blob_digest
from fedmedlora_audit.errors import LawError
from fedmedlora_audit.events import Event, Object
from fedmedlora_crypto.secagg import SessionTerms
from fedmedlora_crypto.secagg.assignment import checkers
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.mirror import Mirror
from fedmedlora_site.sum_check import MOST_WITHHELD, SumChecker
from fedmedlora_testkit.stage import Stage, play, reasons
from fedmedlora_testkit.stage_site import ADAPTER, OWN


async def to_the_sum(stage: Stage, gone: tuple[str, ...] = ()) -> None:
    """Play an honest round up to the point where the sum is published."""
    await stage.begin("shared")
    await stage.uploaded(gone)
    await stage.agreed()
    await stage.unmasked()


def assigned(stage: Stage, ring: bytes) -> tuple[str, ...]:
    """Sites that have to check the one chunk of a sum."""
    terms, session = stage.log.terms, stage.log.session
    numbers = SessionTerms(
        bytes.fromhex(session.sid), terms.n, terms.threshold, terms.colluding_sites, session.suite
    )
    ids = terms.member_ids
    return tuple(ids[party - 1] for party in checkers(numbers, bytes.fromhex(blob_digest(ring)), 0))


def altered(stage: Stage, *, checked_here: bool = True) -> bytes:
    """A sum with one value changed by one quantum, such that the site under test is a checker, or is not.

    A change that small lies within every bound on weights, values and norm.
    """
    packing = stage.study.packing()
    for value in range(ADAPTER.dimension):
        words = packing.read_bytes(stage.ring_sum())
        words[value] += 1
        ring = b"".join(packing.frames_of(words))
        if (OWN in assigned(stage, ring)) is checked_here:
            return ring
    raise AssertionError("no alteration gives this assignment")


@pytest.mark.parametrize("gone", [(), ("site-d",)])
def test_one_altered_value_is_refused_live(tmp_path: Path, gone: tuple[str, ...]) -> None:
    async def scene(stage: Stage) -> None:
        await to_the_sum(stage, gone)
        stage.publish(altered(stage))
        await stage.own("step.refused")

    stage = play(tmp_path, scene)
    assert reasons(stage) == [("aggregate", "wrong_sum")]
    assert not any(event.type == "aggregate.accepted" for event in stage.heard)
    assert stage.log.session.disputed
    assert stage.published is not None
    assert not Holdings.open(stage.root).bases.holds(stage.published.digest)


def test_without_the_check_the_altered_sum_would_be_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def believe(*_: object) -> None:
        return None

    monkeypatch.setattr(SumChecker, "check", believe)

    async def scene(stage: Stage) -> None:
        await to_the_sum(stage)
        stage.publish(altered(stage))
        await stage.closed()

    stage = play(tmp_path, scene)
    assert reasons(stage) == []
    assert any(event.type == "aggregate.accepted" for event in stage.heard)


def test_a_chunk_that_falls_to_the_others_is_left_to_them(tmp_path: Path) -> None:
    """Three of four check each chunk: with one of them colluding, two honest ones still see it."""

    async def scene(stage: Stage) -> None:
        await to_the_sum(stage)
        ring = altered(stage, checked_here=False)
        assert assigned(stage, ring) == ("site-b", "site-c", "site-d")
        stage.publish(ring)
        await stage.own("aggregate.accepted")

    assert reasons(play(tmp_path, scene)) == []


def test_a_disputed_sum_closes_no_round(tmp_path: Path) -> None:
    """R4.6.6: the others' acceptances do not outweigh one honest checker."""

    async def scene(stage: Stage) -> None:
        await to_the_sum(stage)
        stage.publish(altered(stage))
        await stage.own("step.refused")
        for site in ("site-b", "site-c", "site-d"):
            stage.log.accept(site)
        with pytest.raises(LawError, match="A2"):
            data = stage.log.closed_data(next_base=stage.published.digest)  # type: ignore[union-attr]
            stage.log.say("coordinator", "round.closed", data, round=stage.log.number)

    play(tmp_path, scene)


def test_withheld_evidence_is_refused_after_a_few_tries(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await to_the_sum(stage)
        ring = stage.ring_sum()
        stage.withheld.add(stage.log.session.u3["site-b"])
        while OWN not in assigned(stage, ring):
            ring = altered(stage)
        stage.publish(ring)
        await stage.own("step.refused")

    stage = play(tmp_path, scene)
    assert MOST_WITHHELD > 1
    assert reasons(stage) == [("aggregate", "no_evidence")]
    assert not stage.log.session.disputed, "nobody has shown a wrong sum"


def test_evidence_that_is_late_is_waited_for(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await to_the_sum(stage)
        upload = stage.log.session.u3["site-b"]
        stage.withheld.add(upload)
        stage.wire.on_withheld = lambda: stage.withheld.discard(upload)
        stage.publish(stage.ring_sum())
        await stage.closed()

    assert reasons(play(tmp_path, scene)) == []


def test_shares_that_rebuild_nothing_are_no_evidence(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await to_the_sum(stage)
        ring = stage.ring_sum()
        while OWN not in assigned(stage, ring):
            ring = altered(stage)
        for site in ("site-b", "site-c"):
            stage.blobs[stage.log.session.responses[site]] = b"\0" * 100
        stage.publish(ring)
        await stage.own("step.refused")

    assert reasons(play(tmp_path, scene)) == [("aggregate", "no_evidence")]


def lie_late(stage: Stage, digest: str) -> None:
    """Let site-d, whose upload never came, answer late: no payload, another's digest, a size of 1."""
    log, session = stage.log, stage.log.session
    data = of.UpdateSubmitted(sid=session.sid, view=session.view, h_u2=session.h_u2)
    item = Object(role="masked-update", digest=digest, bytes=1)
    log.say("site-d", "update.submitted", data, round=log.number, objects=[item])


@pytest.mark.parametrize("believed", [False, True])
def test_a_late_answer_that_names_anothers_payload_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, believed: bool
) -> None:
    """R3.2.2; believed, one member would abort every round and stay unnamed."""
    if believed:
        monkeypatch.setattr(Mirror, "_learn_sizes", last_word)

    async def scene(stage: Stage) -> None:
        await to_the_sum(stage, ("site-d",))
        lie_late(stage, stage.log.session.u3["site-b"])
        stage.publish(stage.ring_sum())
        await stage.until(lambda: stage.heard[-1].type in ("aggregate.accepted", "step.refused"))

    assert reasons(play(tmp_path, scene)) == ([("aggregate", "no_evidence")] if believed else [])


def last_word(mirror: Mirror, event: Event, *, late: bool) -> None:
    """Believe every event, late or not."""
    for item in event.objects:
        mirror.object_bytes[item.digest] = item.bytes

"""The agent as a witness: it cosigns what it has verified, and opens nothing that no quorum stands behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.cosignature import checkpoint_of, cosign, open_line, with_cosignatures
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.note import NoteSigner
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_site import farewell, reports
from fedmedlora_site.errors import ForkError
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.mirror import Mirror
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, witness_of
from fedmedlora_testkit.stage import Stage, play, reasons
from fedmedlora_testkit.stage_site import OWN, staged_study


def test_it_cosigns_the_survivors_and_the_end_of_every_round(tmp_path: Path) -> None:
    # R5.6.1
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        stage.finish()
        await stage.ended()

    stage = play(tmp_path, scene, study=staged_study(quorum=True))
    ends = ("survivors.fixed", "round.closed", "run.closed")
    sizes = [entry.index + 1 for entry in stage.log.entries if entry.event.type in ends]
    heads = {checkpoint_of(note): line for note, line in stage.cosigned.items()}
    assert sorted(head.size for head in heads) == sizes
    for head, line in heads.items():
        assert head.root == stage.log.tree.root(head.size)
        open_line(line, witness_of(OWN).verifier, head)
    assert any(event.type == "unmask.response" for event in stage.heard)
    kept = checkpoint_of((stage.root / "run" / "mirror" / "cosigned").read_bytes())
    assert kept.size in sizes


def test_it_stays_until_a_quorum_stands_behind_the_end(tmp_path: Path) -> None:
    """Its own bundle passes without the coordinator's."""

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        last = stage.log.tree.size
        stage.wire.witnesses = ("site-b", "site-c")  # the third one is slow to cosign the end
        stage.finish()
        assert stage.agent is not None and stage.task is not None
        mirror = stage.agent._held.mirror
        await stage.until(lambda: mirror.state.run_closed and mirror.size == stage.log.tree.size > last)
        await stage.until(lambda: len(stage.cosigned) == 3)
        assert not stage.task.done()
        stage.wire.witnesses = stage.names
        assert await stage.ended() is None

    stage = play(tmp_path, scene, study=staged_study(quorum=True))
    reports.export_bundle(stage.root, tmp_path / "bundle")
    reports.write_trust(stage.root, tmp_path / "trust.json")
    verdict = verify_bundle(tmp_path / "bundle", Trust.load(tmp_path / "trust.json"))
    assert (verdict.verdict, verdict.checks["C3"].result) == ("pass", "pass")


def test_it_does_not_stay_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farewell.Farewell.__init__, "__defaults__", (0.05,))

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        stage.wire.witnesses = ("site-b", "site-c")
        stage.finish()
        assert await stage.ended() is None
        stage.wire.witnesses = stage.names
        stage.start()  # given again, the command fetches what came later
        assert await stage.ended() is None

    stage = play(tmp_path, scene, study=staged_study(quorum=True))
    assert (
        max(Holdings.open(stage.root).mirror.cosigned_heads())
        > max(entry.index for entry in stage.log.entries if entry.event.type == "round.closed") + 1
    )


async def asked_without_a_quorum(stage: Stage) -> None:
    stage.wire.witnesses = ("site-b", "site-c")  # two of the three that it takes
    await stage.begin("agreed")
    stage.log.coordinate()
    assert stage.log.session.request is not None
    stage.say()
    await stage.until(lambda: any(event.type in ("step.refused", "unmask.response") for event in stage.heard))


def test_it_opens_nothing_before_a_quorum_stands_behind_the_survivors(tmp_path: Path) -> None:
    # R5.6.3
    stage = play(tmp_path, asked_without_a_quorum, study=staged_study(quorum=True))
    assert reasons(stage) == [("unmask", "unwitnessed")]
    assert not any(event.type == "unmask.response" for event in stage.heard)


def test_without_the_check_it_would_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SessionSteps, "_need_witnesses", lambda *_: None)
    stage = play(tmp_path, asked_without_a_quorum, study=staged_study(quorum=True))
    assert any(event.type == "unmask.response" for event in stage.heard)


def test_a_study_that_demands_no_quorum_is_not_witnessed(tmp_path: Path) -> None:
    stage = play(tmp_path, asked_without_a_quorum)
    assert stage.cosigned == {}
    assert any(event.type == "unmask.response" for event in stage.heard)


# -- heads that others stand behind


def cosigned(log: StudyLog, size: int, sites: tuple[str, ...], tree: Tree | None = None) -> bytes:
    head = Checkpoint(ORIGIN, size, (tree or log.tree).root(size))
    note = sign_checkpoint(head, log.log_signer)
    return with_cosignatures(note, [cosign(head, witness_of(site), time=1) for site in sites])


@pytest.fixture(scope="module")
def log() -> StudyLog:
    return StudyLog().play(1)


@pytest.fixture
def mirror(log: StudyLog, tmp_path: Path) -> Mirror:
    own = {entry.event.seq: entry.leaf for entry in log.entries if entry.event.actor.id == OWN}
    made = Mirror(tmp_path, log.terms, OWN)
    made.extend(0, [entry.note for entry in log.entries], log.checkpoint(), own.get)
    return made


QUORUM = ("site-b", "site-c", "site-d")


def test_a_head_with_a_quorum_is_kept(log: StudyLog, mirror: Mirror, tmp_path: Path) -> None:
    note = cosigned(log, 9, QUORUM)
    mirror.take_cosigned(note)
    assert mirror.witnessed == 9
    assert (tmp_path / "cosigned").read_bytes() == note
    mirror.take_cosigned(cosigned(log, 5, QUORUM))  # an older one says nothing new
    assert mirror.witnessed == 9
    later = cosigned(log, log.tree.size, QUORUM)
    mirror.take_cosigned(later)
    assert mirror.cosigned_heads() == {9: note, log.tree.size: later}, "a reviewer needs all of them"


def test_a_head_that_proves_nothing_changes_nothing(log: StudyLog, mirror: Mirror) -> None:
    stranger = sign_checkpoint(Checkpoint(ORIGIN, 9, log.tree.root(9)), NoteSigner.generate(ORIGIN))
    for note in (b"", b"no note", cosigned(log, 9, QUORUM[:2]), stranger):
        mirror.take_cosigned(note)
    assert mirror.witnessed == 0


def test_a_quorum_behind_another_history_stops_the_site(
    log: StudyLog, mirror: Mirror, tmp_path: Path
) -> None:
    other = Tree.of_data([entry.note for entry in log.entries[:8]] + [b"another\n"])
    with pytest.raises(ForkError, match="another history of 9 entries"):
        mirror.take_cosigned(cosigned(log, 9, QUORUM, other))
    assert (tmp_path / "evidence" / "batch-9").exists()
    with pytest.raises(ForkError, match="stopped at an earlier violation"):
        mirror.extend(mirror.size, [], log.checkpoint(), lambda _: None)

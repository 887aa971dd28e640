"""Witnesses at the coordinator: nothing is opened before a quorum stands behind the survivors."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fedmedlora_audit.cosignature import checkpoint_of, cosign, open_cosigned, witness_keys
from fedmedlora_audit.note import VerifierKey
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.reports import export_bundle
from fedmedlora_coordinator.witnesses import Witnesses
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward


@pytest.fixture(autouse=True)
def _unarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def indexes_of(ward: Ward, type_: str) -> list[int]:
    return [entry.index for entry in ward.ledger.entries if entry.event.type == type_]


def silence(ward: Ward, *sites: str) -> None:
    for site in sites:
        ward.hospital(site).cosigns = False


def test_every_survivor_list_and_every_end_is_cosigned_by_all(tmp_path: Path) -> None:
    ward = Ward(tmp_path, quorum=True)
    ward.run()
    ends = [*indexes_of(ward, "survivors.fixed"), *indexes_of(ward, "round.closed"), ward.ledger.size - 1]
    assert len(ends) == 5
    for index in ends:
        assert ward.witnesses.cosigners(index + 1) == set(ward.terms.member_ids)
    out = tmp_path / "bundle"
    export_bundle(ward.folder.root, out)
    assert sorted(int(path.name) for path in (out / "heads").iterdir()) == sorted(i + 1 for i in ends[:-1])
    head = open_cosigned(
        (out / "checkpoint").read_bytes(),
        VerifierKey.parse(ward.terms.log_vkey),
        witness_keys(ward.terms.members),
        origin=ward.terms.origin,
    )
    head.need_quorum(4)


def test_without_a_quorum_nothing_is_asked_for_and_the_round_is_given_up(tmp_path: Path) -> None:
    # R5.6.2
    ward = Ward(tmp_path, quorum=True, rounds=1)
    silence(ward, "site-c", "site-d")  # two of the three that it takes
    ward.run()
    assert indexes_of(ward, "survivors.fixed")
    assert indexes_of(ward, "unmask.request") == []
    assert ward.ledger.state.rounds[1].outcome == "aborted"
    lax = Ward(tmp_path / "lax", rounds=1)  # the same hospitals under a charter that asks for no quorum
    silence(lax, "site-c", "site-d")
    lax.run()
    assert indexes_of(lax, "unmask.request")


def test_one_silent_witness_costs_patience_and_no_round(tmp_path: Path) -> None:
    ward = Ward(tmp_path, quorum=True, rounds=1)
    silence(ward, "site-d")
    ward.run()
    assert ward.ledger.state.rounds[1].outcome == "closed"
    size = indexes_of(ward, "survivors.fixed")[0] + 1
    assert ward.witnesses.cosigners(size) == {"site-a", "site-b", "site-c"}


def test_a_restarted_coordinator_has_the_cosignatures_of_the_one_before(tmp_path: Path) -> None:
    ward = Ward(tmp_path, quorum=True)
    ward.run(lambda state: state.closed_rounds != [])
    before = ward.witnesses.newest(ward.ledger.size)
    assert before
    ward.store.close()
    ward.start()
    assert ward.witnesses.newest(ward.ledger.size) == before
    ward.run()
    assert ward.witnesses.has_quorum(ward.ledger.size)


def test_the_newest_quorum_head_is_never_larger_than_the_reader_has_entries(tmp_path: Path) -> None:
    ward = Ward(tmp_path, quorum=True, rounds=1)
    ward.run()
    first = indexes_of(ward, "survivors.fixed")[0] + 1
    assert ward.witnesses.newest(first - 1) == b""
    assert checkpoint_of(ward.witnesses.newest(first)).size == first
    assert checkpoint_of(ward.witnesses.newest(first + 1)).size == first


def test_a_stream_hears_of_a_quorum_that_no_entry_follows(tmp_path: Path) -> None:
    ward = Ward(tmp_path, quorum=True, rounds=1)
    silence(ward, "site-c", "site-d")
    ward.run()
    size = indexes_of(ward, "round.aborted")[-1] + 1
    assert ward.witnesses.cosigners(size) == {"site-a", "site-b"}

    async def heard() -> None:
        news = asyncio.ensure_future(ward.witnesses.news(ward.ledger.size, ward.witnesses.newest_size()))
        done, _ = await asyncio.wait({news}, timeout=0.05)
        assert not done
        head = ward.ledger.checkpoint(size)
        line = cosign(checkpoint_of(head), ward.hospital("site-c").witness, time=5)
        ward.witnesses.take("site-c", head, line)
        async with asyncio.timeout(5):
            await news

    asyncio.run(heard())
    assert ward.witnesses.newest_size() == size


def test_what_is_no_cosignature_of_a_head_of_this_log_is_refused(tmp_path: Path) -> None:
    ward = Ward(tmp_path, quorum=True, rounds=1)
    silence(ward, "site-a")
    ward.run()
    size = indexes_of(ward, "survivors.fixed")[0] + 1
    note, signer = ward.ledger.checkpoint(size), ward.hospital("site-a").witness
    line = cosign(checkpoint_of(note), signer, time=5)
    odd = ward.ledger.checkpoint(size - 1)
    cases = [
        ("site-a", note[:-5] + b"\n", line, "wrong_head"),
        ("site-a", note.replace(b"ward.example", b"ward.another"), line, "wrong_head"),
        ("site-a", odd, cosign(checkpoint_of(odd), signer, time=5), "wrong_head"),
        ("site-b", note, line, "bad_signature"),
        ("site-a", note, cosign(checkpoint_of(odd), signer, time=5), "bad_signature"),
        ("site-a", note, b"no line\n", "bad_signature"),
    ]
    for site, given, said, reason in cases:
        with pytest.raises(PeerRefusedError) as caught:
            ward.witnesses.take(site, given, said)
        assert caught.value.reason == reason
    assert "site-a" not in ward.witnesses.cosigners(size)
    ward.witnesses.take("site-a", note, line)
    ward.witnesses.take("site-a", note, line)  # once more is no error
    assert Witnesses(ward.ledger, ward.store).cosigners(size) == set(ward.terms.member_ids)


def test_a_witness_with_an_ml_dsa_key_counts_like_any_other(tmp_path: Path) -> None:
    ward = Ward(tmp_path, quorum=True, rounds=1, mldsa=("site-b", "site-c"))
    silence(ward, "site-d")
    ward.run()
    size = indexes_of(ward, "survivors.fixed")[0] + 1
    assert ward.witnesses.cosigners(size) == {"site-a", "site-b", "site-c"}
    assert ward.ledger.state.rounds[1].outcome == "closed"

"""A real site under CKKS: it encrypts, and as key holder opens nothing but a sum that it added itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit import law
from fedmedlora_audit.blob import blob_digest
from fedmedlora_site import mirror as mirror_module
from fedmedlora_site.ciphertexts import SumOpener
from fedmedlora_site.custody import Custody
from fedmedlora_site.errors import StepRefusal
from fedmedlora_site.holdings import Holdings
from fedmedlora_testkit.ckks import decrypted, encrypted, key_pair, slots_of
from fedmedlora_testkit.ckks_stage import CkksStage
from fedmedlora_testkit.stage import Stage, play, reasons
from fedmedlora_testkit.stage_site import ADAPTER, OWN

HELD_BY_ANOTHER = partial(CkksStage, holder="site-b")
SHARED = partial(CkksStage, custody="shared")
VALUES = ADAPTER.dimension + 2


def packed(stage: Stage, words: np.ndarray) -> bytes:
    """A ring vector as it is published."""
    return b"".join(stage.study.packing().frames_of(words))


async def to_the_request(stage: Stage) -> None:
    """Play until the survivors have agreed."""
    await stage.begin("agreed")


@pytest.mark.parametrize("make", [CkksStage, HELD_BY_ANOTHER, SHARED])
def test_a_site_takes_part_in_encrypted_rounds(tmp_path: Path, make: Callable[[Path], Stage]) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        await stage.round()
        stage.finish()
        assert await stage.ended() is None

    stage = play(tmp_path, scene, make)
    assert reasons(stage) == []
    roles = {event.objects[0].role for event in stage.heard if event.type == "unmask.response"}
    assert roles == ({"opened-shares"} if make is HELD_BY_ANOTHER else {"decrypted-sum"})


def test_the_upload_is_closed_and_opens_to_the_encoded_update_of_the_masked_mode(tmp_path: Path) -> None:
    """The same encoding is behind both: the key opens what masks would have covered."""

    async def scene(stage: Stage) -> None:
        await to_the_request(stage)

    stage = play(tmp_path, scene)
    closed = play(tmp_path / "ckks", scene, HELD_BY_ANOTHER)
    upload = closed.blobs[closed.log.session.updates[OWN]]
    name = Holdings.open(closed.root).update_name(1)
    encoded = Holdings.open(closed.root).vault.load_ring(name)
    assert encoded.tobytes() not in upload
    opened = decrypted(closed.study, [(1, upload)], threshold=1)
    assert opened == packed(closed, encoded)
    plain = Holdings.open(stage.root).vault.load_ring(name)
    assert plain.shape == encoded.shape


# -- a coordinator that wants a single update


def one_site_as_the_sum(stage: Stage) -> None:
    """The coordinator names three survivors, and the upload of one site behind all three names."""
    session = stage.log.session
    victim = session.updates["site-b"]
    rows = tuple(of.IdDigest(id=site, digest=victim) for site in ("site-b", "site-c", "site-d"))
    own = of.IdDigest(id=OWN, digest=session.updates[OWN])
    data = stage.log.u3_data(u3=(own, *rows))
    stage.log.force("coordinator", "survivors.fixed", data, round=1)
    stage.say()


async def lying_survivors(stage: Stage) -> None:
    """Play up to a survivor list in which one upload stands under three names; everybody else agrees."""
    await stage.begin("uploaded")
    one_site_as_the_sum(stage)
    log = stage.log
    for site in ("site-b", "site-c", "site-d"):
        log.force(site, "survivors.agreed", log.consent_data(), round=1)
    stage.say()
    await stage.until(lambda: OWN in log.session.agreed or bool(reasons(stage)))
    fields = log.request_fields()
    log.force("coordinator", "unmask.request", fields.pop("data"), **fields)
    stage.say()
    await stage.until(lambda: OWN in log.session.responses or bool(reasons(stage)))


def test_one_upload_under_many_names_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6.16.6, with the site's law switched off: its own look at the list still refuses."""
    monkeypatch.setattr(mirror_module, "apply", law.fold)
    stage = play(tmp_path, lying_survivors, CkksStage)
    assert reasons(stage) == [("unmask", "duplicate")]
    assert not any(event.type == "unmask.response" for event in stage.heard)


def test_without_the_look_at_the_list_one_update_would_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "apply", law.fold)
    monkeypatch.setattr(SumOpener, "_check", lambda *_: None)
    stage = play(tmp_path, lying_survivors, CkksStage)
    assert reasons(stage) == []
    session = stage.log.session
    opened = stage.study.packing().read_bytes(stage.blobs[session.responses[OWN]])
    own = Holdings.open(stage.root).vault.load_ring(Holdings.open(stage.root).update_name(1))
    victim = stage.encoded(0)
    mask = np.uint32(stage.study.codec().modulus - 1)
    assert np.array_equal((opened - own) & mask, (3 * victim) & mask), (
        "the sum less the holder's own update is the victim's"
    )


def test_a_list_shorter_than_the_threshold_is_not_opened(tmp_path: Path) -> None:
    """The coordinator asks for the sum of one: refused before anything is fetched."""
    with pytest.raises(StepRefusal) as found:
        open_directly(tmp_path, ("site-b",))
    assert found.value.reason == "short_survivors"


def test_without_both_looks_the_sum_of_one_would_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SumOpener, "_check", lambda *_: None)
    with pytest.raises(StepRefusal) as found:  # the arithmetic itself refuses, too
        open_directly(tmp_path, ("site-b",))
    assert found.value.reason == "short_survivors"
    monkeypatch.setattr("fedmedlora_crypto.ckks.stream.ChunkSum.need_enough", lambda _: None)
    assert np.array_equal(open_directly(tmp_path / "open", ("site-b",)), np.full(VALUES, 7, dtype=np.uint32))


def test_another_ciphertext_than_the_signed_one_is_not_added(tmp_path: Path) -> None:
    """The coordinator serves one site's ciphertexts for another's digest; the client checks every chunk."""

    async def scene(stage: Stage) -> None:
        await to_the_request(stage)
        session = stage.log.session
        victim = stage.blobs[session.u3["site-b"]]
        for site in ("site-c", "site-d"):
            stage.blobs[session.u3[site]] = victim
        stage.wire.verified = True
        stage.log.coordinate()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene, CkksStage)
    assert reasons(stage) == [("unmask", "wrong_digest")]


@pytest.mark.parametrize("defect", ["size", "coefficient", "garbage"])
def test_an_upload_that_is_no_ciphertext_is_named(tmp_path: Path, defect: str) -> None:
    """R6.16.4: hostile bytes raise one error, which becomes a refusal with the site's name."""

    async def scene(stage: Stage) -> None:
        await stage.begin("shared")
        true = stage.sealed(stage.encoded(0))
        bad = {
            "size": true[:-8],
            "coefficient": b"\xff" * 8 + true[8:],
            "garbage": bytes(len(true) // 2) + b"\x01" * (len(true) // 2),
        }[defect]
        make = stage.sealed
        made: list[bytes] = []

        def sealed(vector: np.ndarray) -> bytes:
            made.append(b"")
            return bad if len(made) == 1 else make(vector)

        stage.sealed = sealed  # type: ignore[method-assign]
        await stage.uploaded()
        await stage.agreed()
        stage.log.coordinate()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene, CkksStage)
    assert reasons(stage) == [("unmask", "bad_share")]
    sentence = Holdings.open(stage.root).journal.refusals[0].sentence
    assert defect == "garbage" or "site-b" in sentence


def test_a_holder_of_a_shared_key_accepts_no_other_sum_than_its_own(tmp_path: Path) -> None:
    # R4.6.7
    """R6.16.8: three others sign another sum, so the law takes it; this site does not."""

    async def scene(stage: Stage) -> None:
        await to_the_request(stage)
        true = stage.ring_sum()
        words = stage.study.packing().read_bytes(true)
        words[0] += 1
        stage.ring_sum = lambda: packed(stage, words)  # type: ignore[method-assign]
        await stage.unmasked()
        stage.publish(stage.ring_sum())
        await stage.own("step.refused")

    stage = play(tmp_path, scene, SHARED)
    assert reasons(stage) == [("aggregate", "bad_aggregate")]


def test_a_lost_connection_while_fetching_only_delays_the_sum(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await to_the_request(stage)
        stage.wire.lost_chunks = 2
        await stage.unmasked()
        stage.publish(stage.ring_sum())
        await stage.closed()

    stage = play(tmp_path, scene, CkksStage)
    assert reasons(stage) == []
    assert stage.wire.lost_chunks == 0


# -- opening without an agent


class Shelf:
    """Uploads of one chunk by digest."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        self.blobs = blobs

    async def get_chunk(self, digest: str, index: int, *, total_bytes: int) -> bytes:
        return self.blobs[digest][index << 20 : (index + 1) << 20]


def open_directly(root: Path, sites: tuple[str, ...]) -> np.ndarray:
    """Ask a key holder for the sum of some sites' uploads, each a vector of sevens."""
    stage = CkksStage(root)
    context, secret = key_pair()
    custody = Custody(context, secret, slots_of(stage.study))
    uploads = {s: encrypted(stage.study, np.full(VALUES, 7, np.uint32)) for s in sites}
    shelf = Shelf({blob_digest(data): data for data in uploads.values()})
    opener = SumOpener(
        custody,
        shelf,  # type: ignore[arg-type]
        values=VALUES,
        threshold=3,
        index={site: i for i, site in enumerate(stage.log.terms.member_ids, start=1)},
    )
    survivors = {site: blob_digest(data) for site, data in uploads.items()}
    sizes = {blob_digest(data): len(data) for data in uploads.values()}
    return asyncio.run(opener.open(survivors, sizes, cores=1))


def test_the_sum_of_three_is_opened(tmp_path: Path) -> None:
    opened = open_directly(tmp_path, ("site-b", "site-c", "site-d"))
    assert np.array_equal(opened, np.full(VALUES, 21, dtype=np.uint32))

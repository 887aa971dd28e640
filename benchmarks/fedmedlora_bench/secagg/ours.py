"""One round of our own code, timed: the same calls that a site and the coordinator make.

What a site does is in `SiteWork`, what the coordinator does in `CoordinatorWork`; the measurement of memory
runs one of the two alone in a process.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from fedmedlora_audit.blob import BlobTree, Chunk, hash_chunks
from fedmedlora_bench.secagg.case import Case
from fedmedlora_bench.secagg.stopwatch import Parts, Stopwatch
from fedmedlora_coordinator.model import Fetch, sum_uploads
from fedmedlora_core.codec import EXTRAS, Codec, FloatVector, RingVector, clip_update, clipped_permille
from fedmedlora_core.packing import Packing
from fedmedlora_crypto.secagg import Aggregator, Party, SessionTerms
from fedmedlora_crypto.secagg.reference import reference_view
from fedmedlora_crypto.xof import SEGMENT_WORDS, WORD_BYTES, Keystream

CHECKED_VALUES = 1 << 20
"""Values of the mean that are compared with the exact one after every round."""


@dataclass(frozen=True)
class Exchange:
    """What the parties of a round have sent before the uploads; all of it small."""

    keys: dict[int, bytes]
    view: bytes
    shares: dict[int, bytes]


def terms_of(case: Case, sid: bytes) -> SessionTerms:
    """Return the terms of a session under a case."""
    return SessionTerms(sid, case.sites, case.threshold, case.colluding, case.suite)


def codec_of(case: Case) -> Codec:
    """Return the codec of a case."""
    return Codec(clip=case.clip, n=case.sites, weight_max=case.weight_max, ring_bits=case.wire_bits)


def packing_of(case: Case) -> Packing:
    """Return the frames of a case's vectors: the values, the weight, the clipped share."""
    return Packing(case.wire_bits, case.params + 1 + EXTRAS)


class SiteWork:
    """One site's work in one round, each part on its clock."""

    def __init__(self, case: Case, terms: SessionTerms, site: int) -> None:
        """Take part without having said anything."""
        self.case, self.site = case, site
        self.watch = Stopwatch()
        self.terms = terms
        self._party = Party(terms, site)
        self._rounding = Keystream(secrets.token_bytes(32))

    def advertise(self) -> bytes:
        """Make the keys."""
        with self.watch.part("keys"):
            return self._party.advertise()

    def share(self, keys: Mapping[int, bytes], view: bytes) -> bytes:
        """Deal the shares of both seeds."""
        with self.watch.part("shares"):
            return self._party.share(keys, view)

    def fix(self, shares: Mapping[int, bytes]) -> None:
        """Open the inbox and derive the keys of the masks."""
        with self.watch.part("shares"):
            self._party.fix(shares)

    def upload(self, room: RingVector, send: Callable[[Chunk], object]) -> None:
        """Clip, encode, mask, pack and hash an update.

        Args:
            room: Memory that begins with the update; spent afterwards, as it is at a site.
            send: Takes each chunk of the packed upload, in order.
        """
        case = self.case
        update = room[: case.params].view(np.float32)
        with self.watch.part("encode"):
            clipped, fraction = clip_update(
                update, clip_value=case.clip, clip_norm=case.clip_norm, out=update, threads=case.threads
            )
            encoded = codec_of(case).encode(
                clipped,
                weight=case.weight(self.site),
                words=self._rounding,
                extras=(clipped_permille(fraction),),
                out=room,
                threads=case.threads,
            )
        with self.watch.part("masks"):
            self._party.mask(encoded, threads=case.threads)
        with self.watch.part("hash"):
            packing = packing_of(case)
            leaves = hash_chunks(packing.frames_of(encoded), sink=send, threads=case.threads)
            _ = BlobTree(leaves, packing.total_bytes).digest

    def open(self, survivors: tuple[int, ...]) -> bytes:
        """Agree to the survivors and open one share of each."""
        with self.watch.part("shares"):
            self._party.agree(survivors)
            return self._party.open(survivors, survivors)


class CoordinatorWork:
    """The coordinator's work in one round, each part on its clock."""

    def __init__(self, case: Case, terms: SessionTerms, place: RingVector | None = None) -> None:
        """Begin without any payload; a coordinator keeps the place of its sums from round to round."""
        self.case, self._place = case, place
        self.watch = Stopwatch()
        self._aggregator = Aggregator(terms)

    def admit(self, keys: Mapping[int, bytes]) -> None:
        """Read the advertised keys."""
        with self.watch.part("checks"):
            self._aggregator.admit(keys)

    def check_shares(self, exchange: Exchange) -> None:
        """Read the dealt shares."""
        with self.watch.part("checks"):
            for site, payload in exchange.shares.items():
                self._aggregator.check_shares(site, payload, holders=exchange.keys, view=exchange.view)

    def sum(self, exchange: Exchange, fetch: Fetch, opened: Mapping[int, bytes]) -> FloatVector:
        """Add the uploads, take the masks off and decode; returns the weighted mean.

        Args:
            exchange: Keys and shares.
            fetch: Gives a chunk of a site's upload, by the site's number as text.
            opened: Opened shares of the survivors.
        """
        case, packing = self.case, packing_of(self.case)
        with self.watch.part("accumulate"):
            total = np.empty(packing.count, dtype=np.uint32) if self._place is None else self._place
            sum_uploads(total, packing, map(str, case.survivors), fetch, threads=case.threads)
        with self.watch.part("unmask"):
            self._aggregator.unmask(
                total, exchange.keys, exchange.shares, case.survivors, opened, threads=case.threads
            )
        with self.watch.part("decode"):
            room = total[: case.params].view(np.float32)
            mean, _, _ = codec_of(case).decode(total, extras=EXTRAS, out=room, threads=case.threads)
        return mean


@dataclass(frozen=True)
class Pass:
    """One timed round.

    Attributes:
        clients: Parts of each site that uploaded.
        coordinator: Parts of the coordinator.
        raw_aes: Wall seconds of the bare cipher over the bytes of one site's masks, once after each site.
        hash_check: Wall seconds of hashing all uploads again, as the coordinator does on their arrival.
        upload_bytes: Bytes of one upload.
        key_bytes: Bytes of one site's keys payload.
        share_bytes: Bytes of one site's shares payload; a mean, since in a hybrid suite the site with the
            smaller index wraps the secret of a pair.
        max_error: Largest deviation from the exact weighted mean over the first million values.
        error_bound: What the specification promises for it; the rounding of the float32 result included.
    """

    clients: list[Parts]
    coordinator: Parts
    raw_aes: list[float]
    hash_check: float
    upload_bytes: int
    key_bytes: int
    share_bytes: float
    max_error: float
    error_bound: float


class Stored:
    """An upload in memory, frame by frame; whole words of 32 bits lie where the site masked them."""

    def __init__(self) -> None:
        """Begin without a frame."""
        self.frames: list[Chunk] = []

    def __len__(self) -> int:
        """Bytes of the upload."""
        return sum(map(len, self.frames))

    def chunk(self, index: int) -> Chunk:
        """Return one chunk."""
        return self.frames[index]


@dataclass(frozen=True, repr=False)
class Played:
    """A round with everything that was sent, for the measurement of the coordinator's memory."""

    figures: Pass
    sid: bytes
    exchange: Exchange
    uploads: dict[int, Stored]
    opened: dict[int, bytes]


def place_of_sums(case: Case) -> RingVector:
    """Return the place in which the coordinator adds and decodes the sums of a whole study."""
    place: RingVector = np.empty(packing_of(case).count, dtype=np.uint32)
    return place


def play_round(case: Case, place: RingVector | None = None) -> Played:
    """Run one round with fresh keys, all sites one after the other, and the coordinator.

    Args:
        case: The conditions.
        place: The coordinator's place of sums from an earlier round; the first round asks for memory.
    """
    sid = secrets.token_bytes(32)
    terms = terms_of(case, sid)
    sites = {i: SiteWork(case, terms, i) for i in range(1, case.sites + 1)}
    coordinator = CoordinatorWork(case, terms, place)
    exchange = exchange_of(sites, coordinator)
    uploads: dict[int, Stored] = {}
    raw_aes = []
    for i in case.survivors:
        sites[i].fix(exchange.shares)
        uploads[i] = Stored()
        sites[i].upload(room_with_update(case, i), uploads[i].frames.append)
        raw_aes.append(raw_aes_seconds(case))
    opened = {i: sites[i].open(case.survivors) for i in case.survivors}
    mean = coordinator.sum(exchange, lambda site, index: uploads[int(site)].chunk(index), opened)
    weight_sum = sum(map(case.weight, case.survivors))
    figures = Pass(
        clients=[sites[i].watch.parts for i in case.survivors],
        coordinator=coordinator.watch.parts,
        raw_aes=raw_aes,
        hash_check=hash_seconds(case, uploads.values()),
        upload_bytes=len(uploads[1]),
        key_bytes=len(exchange.keys[1]),
        share_bytes=sum(map(len, exchange.shares.values())) / case.sites,
        max_error=case.deviation(mean[:CHECKED_VALUES]),
        error_bound=codec_of(case).error_bound(weight_sum=weight_sum, m=len(case.survivors))
        + float(np.spacing(np.float32(case.clip))) / 2,
    )
    return Played(figures, sid, exchange, uploads, opened)


def room_with_update(case: Case, site: int) -> RingVector:
    """Read a site's update to where it will be encoded, as a site reads it out of its vault."""
    room: RingVector = np.empty(packing_of(case).count, dtype=np.uint32)
    case.read_update(site, room[: case.params].view(np.float32))
    return room


def exchange_of(sites: Mapping[int, SiteWork], coordinator: CoordinatorWork) -> Exchange:
    """Let all sites make keys and deal shares."""
    keys = {i: site.advertise() for i, site in sites.items()}
    coordinator.admit(keys)
    view = reference_view(next(iter(sites.values())).terms.sid, keys)
    exchange = Exchange(keys, view, {i: site.share(keys, view) for i, site in sites.items()})
    coordinator.check_shares(exchange)
    return exchange


def hash_seconds(case: Case, uploads: Iterable[Stored]) -> float:
    """Wall seconds of the leaf hashes of all uploads, on the threads of the case."""
    watch = Stopwatch()
    with watch.part("hash"):
        for upload in uploads:
            chunks = map(upload.chunk, range(packing_of(case).frames))
            hash_chunks(chunks, sink=len, threads=case.threads)
    return watch.parts["wall"]["hash"]


def raw_aes_seconds(case: Case) -> float:
    """Wall seconds of AES-256-CTR alone over as many bytes as one site's masks have, on as many threads.

    The floor under any masking with this cipher: the same calls of the same library on chunks of the same
    size, and no addition.
    """
    streams = case.sites  # the self mask and one for each other site
    words = packing_of(case).count
    share = -(-words // case.threads)
    watch = Stopwatch()
    with ThreadPoolExecutor(case.threads) as pool, watch.part("aes"):
        jobs = [pool.submit(_encrypt, min(share, words - first), streams) for first in range(0, words, share)]
        for job in jobs:
            job.result()
    return watch.parts["wall"]["aes"]


def _encrypt(words: int, streams: int) -> None:
    zeros = memoryview(bytes(SEGMENT_WORDS * WORD_BYTES))
    scratch = bytearray(SEGMENT_WORDS * WORD_BYTES)
    ciphers = [Cipher(AES256(secrets.token_bytes(32)), CTR(bytes(16))).encryptor() for _ in range(streams)]
    for start in range(0, words, SEGMENT_WORDS):
        size = min(SEGMENT_WORDS, words - start) * WORD_BYTES
        for cipher in ciphers:
            cipher.update_into(zeros[:size], scratch)

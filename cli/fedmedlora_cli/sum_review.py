"""Check A3: recompute published sums from exported evidence (needs the evidence extra; PROTOCOL §4.6).

Audit knows the log and digests, crypto the masks; here they meet.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from fedmedlora_audit.errors import BundleError
from fedmedlora_audit.events import Entry
from fedmedlora_audit.evidence import (
    CHECK,
    INDEX,
    EvidenceBlob,
    EvidenceIndex,
    SumsJudged,
    evidence_folders,
    rows_of,
    sizes_of,
)
from fedmedlora_audit.finding import Finding
from fedmedlora_audit.law import Session, State
from fedmedlora_core.errors import CodecError
from fedmedlora_core.ring_chunks import packing_of_blob
from fedmedlora_crypto.errors import CryptoError, WrongSumError
from fedmedlora_crypto.secagg.assignment import catch_probability
from fedmedlora_crypto.secagg.graph import Commitments
from fedmedlora_crypto.secagg.graph_parameters import GraphTerms
from fedmedlora_crypto.secagg.recompute import SumCheck
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.secagg.suites import CKKS_SUITE


class SumReview:
    """Judges the sums whose evidence lies in a folder; what `verify_bundle` takes as `sums`."""

    def __init__(self, directory: Path, *, spot: int | None = None) -> None:
        """Take the folder that `coordinator evidence` wrote.

        Args:
            directory: One folder per round, or one round's folder.
            spot: Random chunks of each sum to check; None checks all.
        """
        self._directory = directory
        self._spot = spot
        self._findings: list[Finding] = []
        self._chances: list[tuple[int, int]] = []  # (chunks, checked) of each sum

    def __call__(self, state: State, entries: Sequence[Entry]) -> SumsJudged:
        """Judge every round's evidence against the log."""
        sizes, done = sizes_of(state, entries), set[str]()
        for folder in self._folders():
            try:
                session = _session(state, folder)
                if session.sid not in done:
                    self._recompute(state, session, folder, sizes)
                    done.add(session.sid)
            except BundleError as error:
                self._findings.append(Finding(CHECK, _sentence(error), file=error.file))
        closed = {closed.sid for closed in state.closed_rounds}
        summary = self._summary(len(closed))
        return SumsJudged(tuple(self._findings), len(done), len(closed - done), summary)

    def _folders(self) -> list[Path]:
        try:
            return list(evidence_folders(self._directory))
        except BundleError as error:
            self._findings.append(Finding(CHECK, error.sentence))
            return []

    def _recompute(self, state: State, session: Session, folder: Path, sizes: Mapping[str, int]) -> None:
        """Check the chunks of one sum; a wrong one is a finding against the event that published it."""
        rows = rows_of(session, sizes)
        blobs: dict[tuple[str, str], EvidenceBlob] = {
            (row.role, row.id): EvidenceBlob(folder, row) for row in rows
        }
        ring = blobs["ring-sum", "coordinator"]
        uploads = [blobs["masked-update", site] for site in session.u3]
        try:
            cut = packing_of_blob(ring.total_bytes, bits=state.terms.wire_bits)
            if any(upload.total_bytes != ring.total_bytes for upload in uploads):
                raise CodecError("an upload has another size than the sum")
            check = _masks(state, session, blobs)
            chosen = self._chosen(cut.frames)
            self._chances.append((cut.frames, len(chosen)))
            with typer.progressbar(chosen, label=f"round {session.round}", file=sys.stderr) as bar:
                for index in bar:
                    published = cut.unpack(ring.chunk(index), index)
                    words = (cut.unpack(upload.chunk(index), index) for upload in uploads)
                    check.check(index, published, words, start=cut.span(index)[0])
        except WrongSumError as error:
            sentence = f"round {session.round}: {error}"
            self._findings.append(Finding(CHECK, sentence, index=session.published_index))
        except (CryptoError, CodecError) as error:
            sentence = f"round {session.round}: the payloads in the log do not give a sum: {error}"
            self._findings.append(Finding(CHECK, sentence, index=session.published_index))

    def _chosen(self, chunks: int) -> list[int]:
        if self._spot is None or self._spot >= chunks:
            return list(range(chunks))
        return sorted(secrets.SystemRandom().sample(range(chunks), self._spot))

    def _summary(self, closed: int) -> str:
        """Say what was recomputed and, after a spot check, how surely a wrong value would have been found."""
        if not self._chances:
            return "The folder holds evidence of no published sum."
        full = sum(chunks == checked for chunks, checked in self._chances)
        if full == len(self._chances):
            return f"{full} of {closed} published sums were recomputed in full from the signed uploads."
        chunks, checked = min(self._chances, key=lambda pair: pair[1] / pair[0])
        one, ten = (catch_probability(chunks, min(altered, chunks), checked) for altered in (1, 10))
        return (
            f"Of {len(self._chances)} of {closed} published sums {sum(c for _, c in self._chances)} of "
            f"{sum(n for n, _ in self._chances)} chunks were recomputed from the signed uploads; in each sum "
            f"1 wrong chunk is caught with probability {one:.4g} or more, 10 with {ten:.4g}."
        )


def _session(state: State, folder: Path) -> Session:
    """Return the session that a folder says it is of; the index is only believed where the log agrees.

    Raises:
        BundleError: The index is missing or malformed, or names a sum that this log does not have.
    """
    name = f"{folder.name}/{INDEX}"
    try:
        index = EvidenceIndex.from_json((folder / INDEX).read_bytes())
    except OSError:
        raise BundleError("missing", check=CHECK, file=name) from None
    session = state.sids.get(index.sid)
    if session is None or session.published is None:
        raise BundleError("is of a sum that this log does not have", check=CHECK, file=name)
    if session.suite == CKKS_SUITE:
        raise BundleError("is of a sum of ciphertexts, which is not recomputed here", check=CHECK, file=name)
    return session


def _masks(state: State, session: Session, blobs: Mapping[tuple[str, str], EvidenceBlob]) -> SumCheck:
    """Rebuild the masks from the payloads of a session."""
    terms = state.terms
    party = {site: number for number, site in enumerate(terms.member_ids, start=1)}

    def payloads(role: str) -> dict[int, bytes]:
        return {party[site]: blob.read() for (kind, site), blob in blobs.items() if kind == role}

    graph = commitments = None
    if terms.graph is not None:  # R6.15.6: the order of the ring is the sites' own, from the log
        said = state.rounds[session.round].commitments
        heads = {party[site]: bytes.fromhex(said[site]) for site in session.ready if site in said}
        graph, commitments = GraphTerms(*terms.graph), Commitments(session.attempt, heads)
    return SumCheck(
        SessionTerms(
            bytes.fromhex(session.sid),
            terms.n,
            terms.threshold,
            terms.colluding_sites,
            session.suite,
            graph=graph,
            commitments=commitments,
        ),
        payloads("keys"),
        payloads("shares"),
        [party[site] for site in session.u3],
        payloads("opened-shares"),
        ring_bits=terms.wire_bits,
    )


def _sentence(error: BundleError) -> str:
    return f"{error.file}: {error.sentence}" if error.file else error.sentence

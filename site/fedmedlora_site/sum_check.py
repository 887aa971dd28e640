"""This site's part of the check that a published sum is the sum of the uploads (PROTOCOL §4.6).

Before it accepts a sum a site fetches the opened shares and, of each chunk that falls to it, the published
words and those of every upload; each is checked against the digest that its sender signed. Memory is a few
chunks, whatever the length of the update and the number of sites.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fedmedlora_audit.law import Session
from fedmedlora_core.errors import CodecError
from fedmedlora_core.packing import Packing
from fedmedlora_core.ring_chunks import packing_of_blob
from fedmedlora_crypto.errors import CryptoError, WrongSumError
from fedmedlora_crypto.secagg.assignment import chunks_of
from fedmedlora_crypto.secagg.recompute import SumCheck
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.secagg.suites import CKKS_SUITE
from fedmedlora_site.errors import RejectedError, StepRefusal, TransportError
from fedmedlora_site.logged_session import logged_terms
from fedmedlora_site.step import StepContext

FETCHES = 4
"""Chunks on their way at a time; each is 1 MiB."""
MOST_WITHHELD = 3
"""How often evidence may be missing - a round that closes meanwhile shreds it - before that is a refusal."""
MOST_PAYLOAD_BYTES = 16 << 20


class SumChecker:
    """Checks published sums for one site.

    Args:
        context: What all steps share.
    """

    def __init__(self, context: StepContext) -> None:
        """Start without anything fetched."""
        self._context = context
        self._withheld: dict[str, int] = {}
        self._checked: set[tuple[str, int]] = set()  # (sid, chunk) found right: a broken connection resumes

    async def check(self, session: Session) -> None:
        """Check every chunk of a session's published sum that falls to this site (R4.6.2).

        Raises:
            StepRefusal: The sum is wrong ("wrong_sum"), or what would prove it is withheld or does not
                rebuild the masks ("no_evidence").
            ForkError: A payload is not what the log names (reason "wrong_digest").
            TransportError: The connection broke; the next call goes on after the last checked chunk.
        """
        if session.suite == CKKS_SUITE:  # R4.6.7: a sum of ciphertexts is checked by its own rules
            return
        try:
            await self._check(session)
        except WrongSumError as error:
            raise StepRefusal("aggregate", error.reason, str(error)) from None
        except (CryptoError, CodecError) as error:
            # R4.6.6: the sum cannot have come from these payloads by honest means.
            raise StepRefusal("aggregate", "no_evidence", f"the masks cannot be rebuilt: {error}") from None
        except RejectedError as error:
            raise self._missing(session, error) from None

    def _missing(self, session: Session, error: RejectedError) -> TransportError | StepRefusal:
        """Try again a few times: the round may be closed, and this site's mirror not know it yet."""
        count = self._withheld.get(session.sid, 0) + 1
        self._withheld = {session.sid: count}
        if count < MOST_WITHHELD:
            return TransportError(str(error))
        return StepRefusal("aggregate", "no_evidence", f"evidence of the sum is withheld: {error.reason}")

    async def _check(self, session: Session) -> None:
        terms, sizes = logged_terms(self._context.held, session), self._context.held.mirror.object_bytes
        cut = packing_of_blob(sizes[session.ring], bits=self._context.held.terms.wire_bits)
        # R4.6.4: the digest comes from this site's verified mirror, and a repeated draw is the same.
        assigned = chunks_of(
            terms,
            self._party(self._context.held.site),
            bytes.fromhex(session.ring),
            cut.frames,
            self._context.held.keys.draw_key(session.sid, session.ring),
        )
        if not assigned:
            return
        check = await self._masks(session, terms)
        uploads = list(session.u3.values())
        if any(sizes.get(digest) != cut.total_bytes for digest in uploads):
            raise CodecError("an upload has another size than the sum")
        for done, index in enumerate(assigned):
            self._context.report(session.round, "aggregate", done, len(assigned) + 1)
            if (session.sid, index) not in self._checked:
                await self._check_chunk(check, cut, index, session.ring, uploads)
                self._checked.add((session.sid, index))

    async def _check_chunk(
        self, check: SumCheck, cut: Packing, index: int, ring: str, uploads: list[str]
    ) -> None:
        """Add one chunk of every upload, a few at a time, and compare it with the published one."""
        first, last = cut.span(index)
        masks = asyncio.to_thread(check.chunk, index, start=first, count=last - first)
        partial, published = await asyncio.gather(masks, self._chunk(cut, ring, index))
        for at in range(0, len(uploads), FETCHES):
            batch = uploads[at : at + FETCHES]
            for data in await asyncio.gather(*(self._chunk(cut, digest, index) for digest in batch)):
                partial.add(cut.unpack(data, index))
        # R4.6.1
        partial.compare(cut.unpack(published, index))

    def _chunk(self, cut: Packing, digest: str, index: int) -> asyncio.Task[bytes]:
        call = self._context.client.get_chunk(digest, total_bytes=cut.total_bytes, index=index)
        return asyncio.create_task(call)

    async def _masks(self, session: Session, terms: SessionTerms) -> SumCheck:
        """Rebuild the masks from what U1, U2 and the responders have signed."""
        in_time = {
            site: digest
            for site, digest in session.responses.items()
            if ("unmask.response", site) not in session.late  # a late one has no payload
        }
        keys = await self._fetch(session.u1)
        shares = await self._fetch(session.u2)
        opened = await self._fetch(in_time)
        survivors = [self._party(site) for site in session.u3]
        bits = self._context.held.terms.wire_bits
        return await asyncio.to_thread(SumCheck, terms, keys, shares, survivors, opened, ring_bits=bits)

    async def _fetch(self, digests: Mapping[str, str]) -> dict[int, bytes]:
        """Download small payloads by party; each is checked against the digest that its sender signed."""
        sizes, found = self._context.held.mirror.object_bytes, {}
        for site, digest in digests.items():
            if not 0 < sizes.get(digest, 0) <= MOST_PAYLOAD_BYTES:
                raise CodecError(f"the payload of {site} has an impossible size")
            payload = await self._context.client.get_blob(digest, total_bytes=sizes[digest])
            found[self._party(site)] = bytes(payload)
        return found

    def _party(self, site: str) -> int:
        return self._context.held.terms.member_ids.index(site) + 1

"""The steps of a secure sum: advertise, share, upload, survivors, unmask, and giving up (PROTOCOL §6).

Order inside each step, always: compare with this site's own names, make the marker durable, make the payload
durable, sign. What was refused ends this site's part in the session and erases its secrets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from fedmedlora_audit.event_data import (
    IdDigest,
    InSession,
    SharesSent,
    SurvivorsAgreed,
    UnmaskResponse,
    UpdateSubmitted,
)
from fedmedlora_audit.law import Duty, Session
from fedmedlora_site.blobs import UploadFile
from fedmedlora_site.ciphertexts import Progress, RingVector, SumOpener, encrypt_upload
from fedmedlora_site.custody import encode_sum, ring_values
from fedmedlora_site.errors import StepRefusal
from fedmedlora_site.markers import Consent
from fedmedlora_site.session import LiveSession
from fedmedlora_site.step import StepContext
from fedmedlora_site.summed import (
    consent_base,
    is_counts,
    is_vote,
    load_vector,
    packing_of,
    step_name,
    vector_id,
    vector_name,
)
from fedmedlora_site.update import mask_and_store

MOST_PAYLOAD_BYTES = 16 << 20
"""Keys and shares of one site; the shares of 1024 members need a quarter of a megabyte."""


class SessionSteps:
    """This site's part in secure sums, one session at a time.

    Args:
        context: What all steps share.
    """

    def __init__(self, context: StepContext) -> None:
        """Start without a session: secrets of an earlier process are gone."""
        self._context = context
        self._held = context.held
        self._live: LiveSession | None = None

    def lost_session(self) -> Duty | None:
        """The live session whose secrets died with an earlier process, as a duty to say so (decision G38)."""
        session = self._held.mirror.state.session
        site = self._held.site
        if session is None or site not in session.advertised or session.is_told:
            return None
        if session.is_out(site) or site in session.responses or self._holds(session.sid):
            return None
        # R5.3.2: secrets are in no file, so after a restart there is nothing to go on with.
        return Duty("erase", session.round, session.sid, (session.opened_index,))

    async def advertise(self, duty: Duty) -> bool:
        """Make fresh keys for a session whose name this site computed itself."""
        held, session = self._held, self._context.session_of(duty)
        self.drop()
        if not held.bases.holds(session.base):
            raise StepRefusal("advertise", "wrong_base", "the session's base was not computed here")
        self._need_unspent("advertise", session)
        if held.markers.erased(session.sid):
            raise StepRefusal("advertise", "spent", "this site gave the session up before")
        live = LiveSession(
            held.terms,
            held.site,
            round_number=session.round,
            attempt=session.attempt,
            purpose=session.purpose,
            base=session.base,
            commitments=self._commitments(session),
            graph_secret=held.keys.graph_secret(held.terms.digest, session.round),
        )
        live.check_opening(sid=session.sid, suite=session.suite, ready=session.ready)
        held.markers.mark_seen(session.sid, round_number=session.round)
        upload = held.uploads.store(live.advertise())
        self._live = live
        self._context.strike("advertise", session.round)
        self._context.sign("keys.advertised", InSession(sid=session.sid), duty, payload=("keys", upload))
        self._context.report(session.round, "advertise", 1, 1)
        return True

    async def share(self, duty: Duty) -> bool:
        """Check U1 and deal shares."""
        session = self._context.session_of(duty)
        live = self._need_live(session)
        if live is None:
            return await self.erase(duty)
        payloads = await self.fetch("share", session.u1)
        own = session.advertised[self._held.site]
        dealt = live.share(_rows(session.u1), session.view, own, payloads)
        upload = self._held.uploads.store(dealt)
        self._context.strike("share", session.round)
        data = SharesSent(sid=session.sid, view=live.view)
        self._context.sign("shares.sent", data, duty, payload=("shares", upload))
        self._context.report(session.round, "share", 1, 1)
        return True

    async def upload(self, duty: Duty) -> bool:
        """Check U2, mask the encoded update, and sign the digest of a file that is whole."""
        held, session = self._held, self._context.session_of(duty)
        live = self._need_live(session)
        if live is None:
            return await self.erase(duty)
        self._need_unspent("upload", session)
        self._need_support("upload", session, session.u2)
        payloads = await self.fetch("upload", {site: session.u2[site] for site in live.inbox(session.u2)})
        live.fix(_rows(session.u2), session.view, session.shares[held.site], payloads)
        progress = self._progress_of("upload", session.round)
        upload = await asyncio.to_thread(self._seal, live, session, progress)
        self._context.strike(step_name(session), session.round)
        event = UpdateSubmitted(sid=session.sid, view=live.view, h_u2=live.h_u2)
        self._context.sign("update.submitted", event, duty, payload=("masked-update", upload))
        self._context.report(session.round, "upload", 1, 1)
        return True

    async def survivors(self, duty: Duty) -> bool:
        """Consent to one survivor set, once per base adapter (decisions G34, G37)."""
        held, session = self._held, self._context.session_of(duty)
        live = self._need_live(session)
        if live is None:
            return await self.erase(duty)
        rows = _rows(session.u3)
        live.check_survivors(rows, session.view, session.updates[held.site])
        self._need_support("survivors", session, session.u3)
        base = consent_base(held, session)
        consent = Consent(session.sid, base, tuple(row.id for row in rows), session.purpose)
        self._need_consent(consent)
        # R5.4.3: a crash from here on costs an answer, never a second one.
        held.markers.mark_consented(consent)
        live.agree(rows)
        self._context.strike("survivors", session.round)
        data = SurvivorsAgreed(sid=session.sid, view=live.view, h_u2=live.h_u2, h_u3=live.h_u3)
        self._context.sign("survivors.agreed", data, duty)
        self._context.report(session.round, "survivors", 1, 1)
        return True

    async def unmask(self, duty: Duty) -> bool:
        """Open exactly one kind of share of each site, under T consents seen in the log."""
        held, session = self._held, self._context.session_of(duty)
        live = self._need_live(session)
        if live is None or session.request is None:
            return await self.erase(duty)
        request = session.request
        self._need_witnesses(session)
        self._need_signatures(session, live)
        live.check_request(signers=request.signers, self_of=request.self_of, pair_of=request.pair_of)
        self._need_unspent("unmask", session)
        decrypted = await self._decrypt(live)
        held.markers.mark_released(session.sid, update=vector_id(held, session))
        role, answer = "opened-shares", live.open(request.signers)
        if decrypted is None:
            upload = held.uploads.store(answer)
        else:
            frames = encode_sum(held.study, session.round, decrypted)
            role, upload = "decrypted-sum", held.uploads.store_chunks(frames)
        self._context.strike("unmask", session.round)
        data = UnmaskResponse(sid=session.sid, self_of=request.self_of, pair_of=request.pair_of)
        self._context.sign("unmask.response", data, duty, payload=(role, upload))
        self._context.report(session.round, "unmask", 1, 1)
        return True

    async def erase(self, duty: Duty) -> bool:
        """Give a session up: nothing is left of it, and it will never be answered."""
        sid = duty.sid or ""
        if self._holds(sid):
            self.drop()
        self._held.markers.mark_erased(sid)
        self._context.sign("attempt.erased", InSession(sid=sid), duty)
        return True

    def _seal(self, live: LiveSession, session: Session, progress: Progress) -> UploadFile:
        """Mask or encrypt the encoded update; the payload is whole on the disk when this returns."""
        held = self._held
        if held.custody is not None:
            vector = held.vault.load_ring(vector_name(held, session))
            live.mask(vector)  # adds nothing in this suite; a second time it refuses
            cores = held.config.performance.ckks_processes or None
            return encrypt_upload(held.custody, vector, held.uploads, cores=cores, progress=progress)
        vector, threads = load_vector(held, session), held.config.performance.threads
        return mask_and_store(packing_of(held, session), vector, live, held.uploads, threads=threads)

    def _progress_of(self, step: str, round_number: int) -> Progress:
        """Report a long step's progress from whatever thread it runs in; its end is reported by the step."""
        loop = asyncio.get_running_loop()

        def said(done: int, total: int) -> None:
            if done < total:
                loop.call_soon_threadsafe(self._context.report, round_number, step, done, total)

        return said

    async def _decrypt(self, live: LiveSession) -> RingVector | None:
        """Return the sum of the agreed uploads if this site decrypts it, else None.

        Nothing has left the site when this fails, so it may be done again.
        """
        held = self._held
        if held.custody is None or held.custody.secret is None:
            return None
        opener = SumOpener(
            held.custody,
            self._context.client,
            values=ring_values(held.study, live.round),
            threshold=held.terms.threshold,
            index={site: i for i, site in enumerate(held.terms.member_ids, start=1)},
        )
        survivors = {row.id: row.digest for row in live.u3}
        cores = held.config.performance.ckks_processes or None
        return await opener.open(
            survivors,
            held.mirror.object_bytes,
            cores=cores,
            progress=self._progress_of("unmask", live.round),
        )

    def drop(self) -> None:
        """Erase the secrets of the session this process lives in, if any."""
        if self._live is not None:
            self._live.erase()
            self._live = None

    def _commitments(self, session: Session) -> dict[str, str]:
        """What the session's sites committed to; the log had it before the session was opened (R6.15.6)."""
        said = self._held.mirror.state.rounds[session.round].commitments
        return {site: said[site] for site in session.ready if site in said}

    def _holds(self, sid: str) -> bool:
        return self._live is not None and self._live.sid == sid

    def _need_live(self, session: Session) -> LiveSession | None:
        """The live session, or None when its secrets died with an earlier process."""
        return self._live if self._holds(session.sid) else None

    def _need_unspent(self, step: str, session: Session) -> None:
        """An update whose unmasking was released is never sent again (decision 13)."""
        # R5.4.5: an update whose shares were opened is spent, whatever restarted since.
        released = self._held.markers.released_in(vector_id(self._held, session))
        if released is not None:  # R4.7.8 for a vote: once per adapter, across rounds, studies and logs
            raise StepRefusal(step, "spent", f"this round's {session.purpose} was released before")

    def _need_support(self, step: str, session: Session, sites: Collection[str]) -> None:
        """Refuse a sum in which a label type's own rows would come from fewer than T sites (G40).

        A generative model has no such rows; a classifier has one for each type, which only the sites that
        annotated it move.
        """
        study = self._held.study
        if is_counts(session):
            self._need_counted(step, session, sites)
        if study.model.kind != "token_classification" or is_vote(session) or is_counts(session):
            return
        # R4.2.3: counted among the sites of this very list.
        for label in (*study.labels.entities, *study.labels.modifiers):
            count = sum(label in member.annotated for member in study.members if member.id in sites)
            if count < study.threshold:
                reason = "short_inbox" if step == "upload" else "short_survivors"
                raise StepRefusal(step, reason, f"the rows of '{label}' would come from {count} sites")

    def _need_counted(self, step: str, session: Session, sites: Collection[str]) -> None:
        """Refuse a sum of counts with a type that fewer than T of these sites annotate (R4.15.4)."""
        terms = self._held.terms
        if terms.validation is None or not terms.validation.bears(session.ready, sites, terms.threshold):
            reason = "short_inbox" if step == "upload" else "short_survivors"
            raise StepRefusal(step, reason, "the counts of a type would come from fewer sites than T")

    def _need_consent(self, consent: Consent) -> None:
        """Refuse a second survivor set from one base unless the first can no longer be opened (G37)."""
        held = self._held
        # R5.4.2: the difference of two sums from one base can be one site's update.
        for earlier in held.markers.consents(consent.base, consent.purpose):
            if earlier.sid == consent.sid:
                raise StepRefusal("survivors", "spent", "this site consented in this session before")
            if earlier.survivors == consent.survivors:
                continue
            state = held.mirror.state
            session = state.sids.get(earlier.sid)
            if session is None or not state.cannot_be_opened(session, before=held.mirror.size):
                raise StepRefusal(
                    "survivors", "consent_spent", "another survivor set of this base was consented to before"
                )

    def _need_witnesses(self, session: Session) -> None:
        """Open nothing before T members stand behind the head that fixes the survivors (R5.6.3).

        Otherwise a coordinator could fix one list in the log that some see and another one elsewhere.
        """
        held = self._held
        if "C3" in held.terms.demands and held.mirror.witnessed <= session.u3_index:
            raise StepRefusal("unmask", "unwitnessed", "no quorum has cosigned the list of survivors")

    def _need_signatures(self, session: Session, live: LiveSession) -> None:
        """Look up every signer's consent in the own mirror: it names the very same U2 and U3."""
        entries, state = self._held.mirror.entries, self._held.mirror.state
        for site in session.request.signers if session.request else ():
            leaf = session.agreed.get(site)
            data = entries[state.positions[leaf]].event.data if leaf in state.positions else None
            same = isinstance(data, SurvivorsAgreed) and (data.sid, data.h_u2, data.h_u3) == (
                live.sid,
                live.h_u2,
                live.h_u3,
            )
            if not same:
                raise StepRefusal("unmask", "wrong_digest", f"the consent of {site} is to another sum")

    def opened_before(self, session: Session, index: int) -> dict[str, str]:
        """Digests of the shares that were opened before an entry: a later one needs no payload (ADR 0011)."""
        entries = self._held.mirror.entries[session.request_index : index]
        return {
            entry.event.actor.id: entry.event.object_digest
            for entry in entries
            if entry.event.type == "unmask.response" and entry.event.sid == session.sid
        }

    async def fetch_evidence(
        self, step: str, session: Session, opened: Mapping[str, str]
    ) -> dict[str, bytes]:
        """Download all that a sum of votes or counts was opened from, by digest."""
        named = [session.u1, session.u2, session.u3, opened]
        return await self.fetch(step, {digest: digest for table in named for digest in table.values()})

    async def fetch(self, step: str, digests: Mapping[str, str]) -> dict[str, bytes]:
        """Download every member's payload; each is checked against the digest its sender signed."""
        sizes = self._held.mirror.object_bytes
        for site, digest in digests.items():
            if not 0 < sizes.get(digest, 0) <= MOST_PAYLOAD_BYTES:
                raise StepRefusal(step, "bad_share", f"the payload of {site} has an impossible size")
        get = self._context.client.get_blob
        found = await asyncio.gather(*(get(d, total_bytes=sizes[d]) for d in digests.values()))
        return {site: bytes(data) for site, data in zip(digests, found, strict=True)}


def _rows(digests: Mapping[str, str]) -> tuple[IdDigest, ...]:
    return tuple(IdDigest(id=site, digest=digests[site]) for site in sorted(digests))

"""A whole federation in one process: the real coordinator, scripted hospitals, a clock that tests move.

The coordinator's parts are the real ones (store on disk, ledger, law, conductor, crypto); only the network is
missing: hospitals hand their events to the ledger themselves. A hospital's update in round r is its own
constant vector, so the sum itself tells who was counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedmedlora_audit.blob import BlobTree, blob_digest, blob_leaves
from fedmedlora_audit.chain import Author
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.cosignature import checkpoint_of, cosign, is_cosigned_after
from fedmedlora_audit.event_data import (
    AggregateAccepted,
    Base,
    CharterSigned,
    Data,
    InSession,
    SharesSent,
    SurvivorsAgreed,
    UnmaskResponse,
    UpdateReady,
    UpdateSubmitted,
)
from fedmedlora_audit.events import Object
from fedmedlora_audit.law import Session, State, duties
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_coordinator import setup
from fedmedlora_coordinator.aggregate import terms_of_session
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.conductor import Conductor
from fedmedlora_coordinator.engine import Wait
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.ledger import Keys, Ledger
from fedmedlora_coordinator.model import GlobalModel
from fedmedlora_coordinator.neighbourhoods import party_of
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_coordinator.placement import log_database
from fedmedlora_coordinator.presence import Presence
from fedmedlora_coordinator.progress import Progress
from fedmedlora_coordinator.settings import CoordinatorSettings, Evidence, Timing
from fedmedlora_coordinator.witnesses import Witnesses
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.study import AuditTerms, LogTerms
from fedmedlora_crypto.secagg.graph import chain_link, commitment, contribution
from fedmedlora_crypto.secagg.party import Party
from fedmedlora_testkit.audit_charges import charge_of
from fedmedlora_testkit.hospital import Clock, FlakyStore, Hospital, Killed, packing_of
from fedmedlora_testkit.studies import make_study, with_privacy

TIMING = Timing(
    grace_seconds=10, ready_grace_seconds=10, abort_seconds=30, step_seconds=300, training_seconds=3000
)
DIMENSION = 12


class Ward:
    """n hospitals and one coordinator over one folder."""

    clock_type = Clock
    store: FlakyStore

    def __init__(
        self,
        root: Path,
        *,
        n: int = 4,
        rounds: int = 2,
        keep_evidence: bool = False,
        keep_rounds: int = 0,
        dimension: int = DIMENSION,
        initial: Adapter | None = None,
        quorum: bool = False,
        mldsa: Collection[str] = (),
        private: bool = False,
        annotated: Mapping[str, Sequence[str]] | None = None,
        store_url: str = "",
        **overrides: Any,
    ) -> None:
        self.clock = self.clock_type()
        self.folder = Folder(root / "coordinator")
        made = setup.init(
            self.folder.root,
            name="ward.example",
            address="h:1",
            enrolment_address="h:2",
            timing=TIMING,
            store_url=store_url,
        )
        self.hospitals = [Hospital(f"site-{chr(96 + i)}", i) for i in range(1, n + 1)]
        for hospital in self.hospitals:
            if hospital.site in mldsa:
                hospital.witness = hospital.post_quantum_witness()
        self.initial = adapter = initial or make_adapter(dimension)
        self.study = make_study(
            [h.site for h in self.hospitals],
            initial_digest=adapter.digest,
            dimension=adapter.dimension,
            vkeys={h.site: (h.signer.vkey, h.witness.vkey) for h in self.hospitals},
            log=LogTerms(
                origin="ward.example/log", log_vkey=made.log_vkey, coordinator_vkey=made.coordinator_vkey
            ),
            audit=AuditTerms(quorum=True) if quorum else None,
            annotated=annotated,
            # Its weights are small beside the charter's: in a narrow ring the results would be rough.
            overrides={"training__rounds": rounds, "secure_aggregation__wire_bits": 32, **overrides},
        )
        if private:
            self.study = with_privacy(self.study)
        self.study.write(self.folder.study / "study.toml")
        adapter.save(self.folder.study / "initial")
        self.terms = CharterTerms.from_json(self.study.canonical_json())
        loaded = CoordinatorSettings.load(self.folder.config)
        choice = Evidence(after_round="keep" if keep_evidence else "shred", keep_rounds=keep_rounds)
        self.settings = loaded.model_copy(update={"evidence": choice})
        self.start()

    def start(self) -> None:
        """Start (or restart) the coordinator from its folder; what an earlier one held goes with it."""
        if hasattr(self, "store"):
            self.store.close()
        keys = Keys(setup.load_event_signer(self.folder), setup.load_log_signer(self.folder))
        self.store = FlakyStore(log_database(self.folder), self.folder.head)
        self.blobs = BlobStore(self.folder.blobs, storage_key=setup.load_storage_key(self.folder))
        self.model = GlobalModel.of_package(self.study, self.folder.study)
        self.payloads = Payloads(self.terms, self.blobs, self.model.sizes())
        self.ledger = Ledger(
            terms=self.terms,
            store=self.store,
            keys=keys,
            clock=self.clock.now,
            observer=lambda entry: self.payloads.learn([entry]),
        )
        self.payloads.learn(self.ledger.entries)
        self.presence = Presence(started=self.clock.seconds)
        for hospital in self.hospitals:
            if hospital.alive:
                self.presence.opened(hospital.site, self.clock.seconds)
        self.witnesses = Witnesses(self.ledger, self.store)
        self.conductor = Conductor(
            ledger=self.ledger,
            blobs=self.blobs,
            payloads=self.payloads,
            model=self.model,
            presence=self.presence,
            witnesses=self.witnesses,
            progress=Progress(1 << 30),
            settings=self.settings,
            folder=self.folder,
            monotonic=self.clock.monotonic,
        )
        self.conductor.begin()

    def hospital(self, site: str) -> Hospital:
        """The hospital of an id."""
        return next(h for h in self.hospitals if h.site == site)

    def drop(self, site: str) -> None:
        """A hospital goes away and loses its memory."""
        hospital = self.hospital(site)
        if hospital.alive:
            hospital.alive = False
            self.presence.closed(site, self.clock.seconds)
        hospital.restart()

    def come_back(self, site: str) -> None:
        """A hospital is there again."""
        self.hospital(site).alive = True
        self.presence.opened(site, self.clock.seconds)

    def run(self, until: Callable[[State], bool] = lambda state: state.run_closed) -> State:
        """Let everybody act until a condition holds; restarts the coordinator when it is killed."""
        return asyncio.run(self._run(until))

    async def _run(self, until: Callable[[State], bool]) -> State:
        for _ in range(5000):
            try:
                if await self._turn(until):
                    self.witness()
                    return self.ledger.state
            except Killed:
                FlakyStore.died()
                self.store.close()
                self.start()
        raise RuntimeError("the federation does not come to an end")

    def witness(self) -> None:
        """Let every hospital that is there cosign what it has not yet."""
        if not self.witnesses.demanded:
            return
        for entry in self.ledger.entries:
            if not is_cosigned_after(entry.event.type):
                continue
            note = self.ledger.checkpoint(entry.index + 1)
            for hospital in self.hospitals:
                known = self.witnesses.cosigners(entry.index + 1)
                if hospital.alive and hospital.cosigns and hospital.site not in known:
                    time = int(self.clock.now().timestamp())
                    line = cosign(checkpoint_of(note), hospital.witness, time=time)
                    self.witnesses.take(hospital.site, note, line)

    async def _turn(self, until: Callable[[State], bool]) -> bool:
        self.witness()
        for hospital in self.hospitals:
            if until(self.ledger.state):
                return True
            if hospital.alive and self.act(hospital):
                return False
        if until(self.ledger.state) or self.ledger.state.run_closed:
            return True
        if await self._attend():
            return False
        pause = await self.conductor.move()
        if isinstance(pause, Wait):
            if pause.until is None:
                raise RuntimeError("everybody waits for ever")
            self.clock.seconds = max(self.clock.seconds, pause.until)
        return False

    async def _attend(self) -> bool:
        """Let somebody act who is not scripted; returns whether the log has grown."""
        return False

    # -- what a hospital does ---------------------------------------------------------------------------

    def act(self, hospital: Hospital) -> bool:
        """Do one duty of a hospital; returns whether there was one."""
        state = self.ledger.state
        if hospital.outbox is not None:
            return self.hand_in(hospital, hospital.outbox) is not None
        duty = duties(state, hospital.site)
        if duty is None or duty.step in hospital.refuses:
            return False
        session = state.sids.get(duty.sid or "")
        secret_step = duty.step not in ("advertise", "erase", "aggregate", "count", "tally")
        if session is not None and secret_step and session.sid not in hospital.parties:
            # It lost its secrets: sit the attempt out.
            self.submit(hospital, "attempt.erased", InSession(sid=session.sid), duty.round)
            return True
        if session is None:
            self._act_outside(hospital, duty.step, duty.round)
        else:
            self._act_in(hospital, duty.step, session)
        return True

    def _act_outside(self, hospital: Hospital, step: str, round_number: int | None) -> None:
        if step == "sign":
            self.submit(hospital, "charter.signed", CharterSigned(charter=self.terms.digest), None)
            return
        current = self.ledger.state.round
        assert current is not None
        kind = "plan.accepted" if step == "plan" else "update.ready"
        refs = (current.plan.leaf.hex(),)
        data: Data = Base(base=current.base)
        if step == "train" and hospital.charges and self.terms.privacy is not None:
            charge = charge_of(self.ledger.state, hospital.site)
            self.submit(hospital, "dp.spent", charge, round_number)
        if step == "train":
            head = None
            if self.terms.graph is not None:
                head = commitment(hospital.graph_secret(current.number), hospital.number).hex()
            data = UpdateReady(base=current.base, graph=head)
        self.submit(hospital, kind, data, round_number, refs=refs)

    def _act_in(self, hospital: Hospital, step: str, session: Session) -> None:
        sid, view = session.sid, session.view
        if step == "erase":
            hospital.parties.pop(sid, None)
            self.submit(hospital, "attempt.erased", InSession(sid=sid), session.round)
            return
        if step == "aggregate":
            published = session.published
            assert published is not None
            accepted = AggregateAccepted(
                sid=sid, ring=session.ring, next_base=published.next_base, state=published.state
            )
            self.submit(hospital, "aggregate.accepted", accepted, session.round)
            return
        if step == "count":
            assert session.counted is not None
            self.submit(hospital, "votes.checked", session.counted, session.round)
            return
        if step == "tally":
            assert session.tallied is not None
            self.submit(hospital, "validation.checked", session.tallied, session.round)
            return
        data: dict[str, Data] = {
            "advertise": InSession(sid=sid),
            "share": SharesSent(sid=sid, view=view or "0" * 64),
            "upload": UpdateSubmitted(sid=sid, view=view or "0" * 64, h_u2=session.h_u2 or "0" * 64),
            "survivors": SurvivorsAgreed(
                sid=sid,
                view=view or "0" * 64,
                h_u2=session.h_u2 or "0" * 64,
                h_u3=session.h_u3 or "0" * 64,
            ),
        }
        kinds = {
            "advertise": ("keys.advertised", "keys"),
            "share": ("shares.sent", "shares"),
            "upload": ("update.submitted", "masked-update"),
            "survivors": ("survivors.agreed", None),
            "unmask": ("unmask.response", "opened-shares"),
        }
        if step == "unmask":
            assert session.request is not None
            data["unmask"] = UnmaskResponse(
                sid=sid, self_of=session.request.self_of, pair_of=session.request.pair_of
            )
        payload = self.payload(hospital, step, session)
        kind, role = kinds[step]
        self.submit(hospital, kind, data[step], session.round, payload=payload, role=role)

    def payload(self, hospital: Hospital, step: str, session: Session) -> bytes:
        """What a hospital sends with its event at a step."""
        me = party_of(self.terms, hospital.site)
        read = self.blobs.read
        if step == "advertise":
            own = b""
            if self.terms.graph is not None:
                link = chain_link(session.purpose, session.attempt)
                own = contribution(hospital.graph_secret(session.round), me, attempt=link)
            terms = terms_of_session(self.ledger.state, session)
            party = Party(terms, me, contribution=own)
            hospital.parties[session.sid] = party
            return party.advertise()
        party = hospital.parties[session.sid]
        if step == "share":
            keys = {party_of(self.terms, s): read(d) for s, d in session.u1.items()}
            return party.share(keys, bytes.fromhex(session.view))
        if step == "upload":
            u2 = {party_of(self.terms, s): d for s, d in session.u2.items()}
            party.fix({x: read(u2[x]) for x in party.neighbours_in(u2)}, u2)
            vector = hospital.summed(self.study, session)
            party.mask(vector)
            return b"".join(packing_of(self.study, session).frames_of(vector))
        survivors = [party_of(self.terms, s) for s in session.u3]
        if step == "survivors":
            party.agree(survivors)
            return b""
        assert session.request is not None
        return party.open(survivors, [party_of(self.terms, s) for s in session.request.signers])

    def note(
        self,
        hospital: Hospital,
        kind: str,
        data: Data,
        round_number: int | None,
        *,
        refs: Collection[str] = (),
        objects: Collection[Object] = (),
    ) -> bytes:
        """Sign a hospital's next event on the log as it is."""
        state = self.ledger.state
        author = Author(hospital.site, "site", hospital.signer, self.terms.origin)
        note, _ = author.draft(
            state.chain_of(hospital.site),
            type=kind,
            data=data,
            saw=state.head(),
            time=self.clock.now(),
            round=round_number,
            refs=tuple(refs),
            objects=tuple(objects),
        )
        return note

    def submit(
        self,
        hospital: Hospital,
        kind: str,
        data: Data,
        round_number: int | None,
        *,
        payload: bytes = b"",
        role: str | None = None,
        refs: Collection[str] = (),
    ) -> tuple[bytes, int] | None:
        """Upload a payload and hand in the event that names it; None when the hospital is cut off."""
        objects = []
        if role is not None:
            item = {"role": role, "digest": self.put(hospital, payload), "bytes": len(payload)}
            objects.append(Object.model_validate(item))
        note = self.note(hospital, kind, data, round_number, refs=refs, objects=objects)
        hospital.outbox = note
        return self.hand_in(hospital, note)

    def hand_in(self, hospital: Hospital, note: bytes) -> tuple[bytes, int] | None:
        """Hand a signed event in; a refused one leaves the outbox too."""
        if hospital.cut_off:
            return None
        try:
            answer = self.ledger.submit(hospital.site, note, self.payloads.check)
        except PeerRefusedError:
            hospital.outbox = None
            raise
        hospital.outbox = None
        return answer

    def put(self, hospital: Hospital, payload: bytes) -> str:
        """Upload a payload chunk by chunk."""
        digest = blob_digest(payload)
        tree = BlobTree(blob_leaves(payload), len(payload))
        for index in range(-(-len(payload) // CHUNK_BYTES)):
            self.blobs.put_chunk(
                hospital.site,
                digest=digest,
                total_bytes=len(payload),
                index=index,
                data=payload[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES],
                proof=tuple(tree.proof(index)),
            )
        return digest

    # -- what must come out -----------------------------------------------------------------------------

    def expected_vector(self, counted: list[list[str]]) -> np.ndarray[Any, Any]:
        """The global adapter after rounds in which exactly these hospitals were counted, computed plainly."""
        vector = self.initial.vector().astype(np.float64)
        for number, sites in enumerate(counted, start=1):
            there = [self.hospital(site) for site in sites]
            if there:
                total = sum(h.weight() * 0.001 * h.number * number for h in there)
                vector = vector + total / sum(h.weight() for h in there)
        return vector

    def types(self) -> list[str]:
        """Types of the log's events without receipts."""
        return [e.event.type for e in self.ledger.entries if e.event.type != "receipt"]


def make_adapter(dimension: int = DIMENSION) -> Adapter:
    """A small initial adapter: one frozen and one trainable tensor."""
    tensors = {
        "layer.lora_A.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "layer.lora_B.weight": np.zeros((dimension // 2, 2), dtype=np.float32),
    }
    return Adapter(tensors, ("layer.lora_B.weight",), {"peft_type": "LORA", "r": 2})

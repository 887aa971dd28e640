"""The conductor: asks the law whom the round waits for, and takes the next step (PROTOCOL §5.2).

One loop, one step at a time, all of it derived from the log: a conductor that was killed anywhere goes on
where the log ends. Time and absence come in through the engine; the heavy sum runs in a thread so that
sites are served.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from fedmedlora_audit.law import Session, State, Waiting, waiting
from fedmedlora_audit.law.state import COUNTS
from fedmedlora_audit.law.validation_rules import chosen_round, countable, may_be_asked, may_be_counted
from fedmedlora_coordinator import steps
from fedmedlora_coordinator.aggregate import (
    Summation,
    admit_keys,
    aggregate,
    check_windows,
    worker_threads,
)
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.decryption import can_decrypt, need_holder
from fedmedlora_coordinator.engine import Go, Situation, Wait, decide
from fedmedlora_coordinator.errors import ForbiddenError, RoundError, StoreError, ThinCountsError
from fedmedlora_coordinator.evidence import EvidenceKeeper
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.ledger import Ledger
from fedmedlora_coordinator.model import ClosedSum, GlobalModel
from fedmedlora_coordinator.model import Step as ModelStep
from fedmedlora_coordinator.neighbourhoods import party_of
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_coordinator.presence import Presence
from fedmedlora_coordinator.progress import Progress
from fedmedlora_coordinator.release import write_release
from fedmedlora_coordinator.settings import CoordinatorSettings
from fedmedlora_coordinator.steps import Draft
from fedmedlora_coordinator.validation import published_counts, sum_counts
from fedmedlora_coordinator.vote import count_opened
from fedmedlora_coordinator.witnesses import Witnesses
from fedmedlora_core.validation_counts import CountLayout
from fedmedlora_core.vote import vote_packing
from fedmedlora_protos.operating.logbook import tell

_LOG = logging.getLogger(__name__)
RETRIED_STEPS = frozenset({"advertise", "share", "upload", "survivors"})
SUBTRACTION_RULE = (
    "G14"  # of all rules the one that honest parties can run into: who survived is not ours to choose
)
OnClipped = Callable[[int, float, bool], None]
"""(round, mean clipped share in thousandths, whether it is above the charter's limit)."""


class Conductor:
    """Drives one study to its end."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        blobs: BlobStore,
        payloads: Payloads,
        model: GlobalModel,
        presence: Presence,
        witnesses: Witnesses,
        progress: Progress,
        settings: CoordinatorSettings,
        folder: Folder,
        monotonic: Callable[[], float],
        on_clipped: OnClipped = lambda number, permille, warn: None,
    ) -> None:
        """Take the parts and bring the global adapter to where the log stands.

        Raises:
            StoreError: A stored ring sum is missing or does not lead where the log says.
        """
        self._ledger = ledger
        self._blobs = blobs
        self._model = model
        self._presence = presence
        self._witnesses = witnesses
        self._progress = progress
        self._settings = settings
        self._folder = folder
        self._monotonic = monotonic
        self._observe_clipped = on_clipped
        self._changed = asyncio.Event()
        self._since: tuple[tuple[object, ...], float] = ((), monotonic())
        self._evidence = EvidenceKeeper(ledger, blobs, payloads, settings.evidence)
        self._neighbourhoods = payloads.neighbourhoods
        model.replay(self._closed_sums(model))

    @property
    def _state(self) -> State:
        return self._ledger.state

    def _closed_sums(self, model: GlobalModel, last: int | None = None) -> Iterator[ClosedSum]:
        """Read the stored sums of the closed rounds, up to one of them, into a model's own memory."""
        for closed in self._state.closed_rounds:
            if last is not None and closed.round > last:
                return
            chunks, room = self._blobs.chunks(closed.ring), model.accumulator(closed.round)
            total = model.packing(closed.round).read(chunks, out=room)
            sites = len(self._state.sids[closed.sid].u3)
            yield ClosedSum(closed.round, total, sites, closed.next_base, closed.state)

    def wake(self) -> None:
        """Look again: an event was written, or a site came or went."""
        self._changed.set()

    async def run(self) -> None:
        """Take step after step until the run is closed.

        Raises:
            StoreError: The durable state cannot be trusted or written any more.
        """
        self.begin()
        while not self._state.run_closed:
            self._changed.clear()
            pause = await self.move()
            if pause is not None:
                await self._sleep(pause)
        self._evidence.settle()

    def begin(self) -> None:
        """Write what is missing of the log's first entries, and tidy what a kill may have left."""
        for draft in steps.preamble(self._state.terms, software())[self._ledger.size :]:
            self._write(draft)
        self._evidence.settle()

    async def move(self) -> Wait | None:
        """Take one step if one can be taken; else say until when to wait."""
        now = waiting(self._state)
        if now.step == "idle":
            return self._between_rounds()
        if self._state.round is not None and self._state.round.disputed:
            self._abort("disagreement")
            return None
        decision = decide(self._situation(now), self._presence, self._settings.timing, self._monotonic())
        if now.step == "charter":
            if not now.complete:
                return Wait(None)
            decision = Go()
        if isinstance(decision, Wait):
            return decision
        try:
            if isinstance(decision, Go):
                await self._go(now.step, decision)
            elif not self._another_attempt(now.step):
                await self._give_up(now.step, self._abort_reason(now))
        except RoundError as error:
            if not (isinstance(error, ThinCountsError) and self._another_attempt(now.step)):
                tell(_LOG, "round_problem", round=now.round, detail=str(error))
                await self._give_up(now.step, error.reason)
        return None

    def _between_rounds(self) -> Wait | None:
        """Plan the next round once enough sites are there, or release and end."""
        state = self._state
        if state.shortage:
            tell(_LOG, "round_problem", round=len(state.rounds) + 1, detail=state.shortage)
        elif len(state.rounds) < state.terms.rounds:
            # Planning while too few are there would only burn one of the charter's rounds.
            # So would one without the site that alone can decrypt its sum.
            there = self._presence.connected()
            if len(there) < state.terms.threshold or not can_decrypt(state, there):
                return Wait(None)
            self._write(steps.plan(state))
            return None
        if state.closed_rounds and state.released is None:
            self._release()
        self._write(steps.run_closed(state))
        return None

    def _release(self) -> None:
        """Write the adapter of the last closed round, or of the one that the summed counts choose."""
        state, model, chosen = self._state, self._model, chosen_round(self._state)
        if chosen is not None and chosen.round != state.closed_rounds[-1].round:
            model = GlobalModel.of_package(model.study, self._folder.study)
            model.replay(self._closed_sums(model, last=chosen.round))
        number = None if chosen is None else chosen.round
        rounds = len(state.closed_rounds)
        write_release(self._folder.released, model.adapter, model.study, rounds=rounds, chosen=number)
        self._write(steps.model_released(state))

    async def _go(self, step: str, decision: Go) -> None:
        """Write the event that ends a step."""
        state = self._state
        if decision.without and step not in ("aggregate", "count", "tally"):
            self._report_silent(step)
        if step == "charter":
            self._write(steps.run_opened(state))
        elif step == "train":
            current = steps.open_round(state)
            self._write(steps.session_opened(state, set(current.ready) - set(current.refused)))
        elif step == "advertise":
            self._fix(steps.keys_broadcast(state, *admit_keys(state, self._blobs)), "u1")
        elif step == "share":
            self._fix(steps.shares_fixed(state), "u2")
        elif step == "upload":
            self._fix(steps.survivors_fixed(state), "u3")
        elif step == "survivors":
            request = steps.unmask_request(state)
            need_holder(state, getattr(request.data, "signers", ()))
            self._write(request)
        elif step == "unmask":
            await self._open_sum(steps.live_session(state))
        else:
            await self._end_round(step)

    def _fix(self, draft: Draft, rows: str) -> None:
        """Write one of the lists of a session: at least T sites, and no sum that subtraction would open."""
        listed, terms = getattr(draft.data, rows), self._state.terms
        if len(listed) < terms.threshold:
            raise RoundError("below_threshold", f"{draft.type} would name too few sites")
        if rows != "u1" and terms.graph is not None:
            graph = self._neighbourhoods.graph_of(steps.live_session(self._state).sid)
            check_windows(graph, [party_of(terms, row.id) for row in listed])
        need_holder(self._state, [row.id for row in listed])
        session, there = steps.live_session(self._state), [row.id for row in listed]
        if session.purpose == COUNTS and not may_be_counted(self._state, session, there):
            raise ThinCountsError(session.step)  # R4.15.4, R4.15.5
        try:
            self._write(draft)
        except ForbiddenError as error:
            if error.check != SUBTRACTION_RULE:
                raise
            raise RoundError("refused", str(error)) from None

    async def _open_sum(self, session: Session) -> None:
        """Sum, unmask, decode and publish; or count, if it is for that. The arithmetic runs in a thread."""
        if session.purpose == "score":
            votes = Summation.of(self._state, session, vote_packing(self._state.terms.n))
            against = await asyncio.to_thread(count_opened, votes, self._blobs, self._state.terms.n)
            self._write(steps.votes_counted(self._state, against))
            return
        if session.purpose == COUNTS:
            await self._open_counts(session)
            return
        packing = self._model.packing(session.round)
        summation = Summation.of(self._state, session, packing)
        step, ring = await asyncio.to_thread(aggregate, summation, self._blobs, self._model, session.round)
        self._report_clipped(session, step)
        self._write(steps.aggregate_published(self._state, step, ring=ring, ring_bytes=packing.total_bytes))

    async def _open_counts(self, session: Session) -> None:
        """Sum, unmask and publish validation counts."""
        layout = CountLayout.of(self._model.study, session.ready)
        summation = Summation.of(self._state, session, layout.packing)
        found = await asyncio.to_thread(sum_counts, summation, self._blobs, layout)
        data = published_counts(found, layout, sid=session.sid, sites=len(session.u3))
        self._write(steps.validation_counted(self._state, data))

    def _report_clipped(self, session: Session, step: ModelStep) -> None:
        """Say how much the clip took from the sites' updates, and warn above the charter's limit (R4.5.7)."""
        limit = self._model.study.secure_aggregation.clipped_warn_permille
        warn = step.clipped_permille > limit
        if warn:
            said = {"permille": round(step.clipped_permille, 1), "limit": limit}
            tell(_LOG, "clipped_often", round=session.round, **said)
        self._observe_clipped(session.round, step.clipped_permille, warn)

    async def _end_round(self, step: str) -> None:
        """Open the vote or the counts that are due; else close the round, or roll it back by its vote."""
        state, current = self._state, steps.open_round(self._state)
        counted = current.vote.counted if current.vote is not None else None
        if counted is None and state.terms.votes_in(current.number):
            self._report_silent(step)
            self._write(steps.vote_opened(state, steps.summed_session(state).accepted))
        elif counted is not None and counted.rejected:
            self._report_silent(step)
            self._write(steps.round_rolled_back(state))
            self._evidence.settle()
        elif current.counts is None and (sites := countable(state, current)):
            self._report_silent(step)
            self._write(steps.counts_opened(state, sites))
        else:
            await self._close(step)

    async def _close(self, step_name: str) -> None:
        """Name the silent survivors, close the round and take the step to the next base."""
        session = steps.summed_session(self._state)
        total = await asyncio.to_thread(
            self._model.packing(session.round).read,
            self._blobs.chunks(session.ring),
            out=self._model.accumulator(session.round),
        )
        step = await asyncio.to_thread(
            self._model.step,
            total,
            round_number=session.round,
            survivors=len(session.u3),
            threads=worker_threads(),
        )
        published = steps.published(self._state)
        if (step.next_base, step.state_digest) != (published.next_base, published.state):
            raise StoreError("the stored ring sum does not lead to the published base")
        # From here on without a pause: what a site says meanwhile must be in the list, or stop the round.
        if steps.open_round(self._state).disputed:
            raise RoundError("disagreement", "a site found another aggregate, or another count of the votes")
        self._report_silent(step_name)
        self._write(steps.round_closed(self._state))
        self._model.take(step)
        self._evidence.settle()

    def _another_attempt(self, step: str) -> bool:
        """Try the same vectors again with the sites that are there, while nothing of their sum was opened."""
        state = self._state
        current = steps.open_round(state)
        purpose = current.sessions[-1].purpose if current.sessions else "update"
        able = set(current.ready) - set(current.refused)
        if purpose != "update":
            session = steps.live_session(state)
            able = set(session.ready) - (set(session.refused) if purpose == COUNTS else set())
        there = set(self._presence.connected()) & able
        if (
            step not in RETRIED_STEPS
            or current.attempts(purpose) >= self._settings.limits.max_attempts
            or len(there) < state.terms.threshold
            or not can_decrypt(state, there)
            or (purpose == COUNTS and not may_be_asked(state, there))
        ):
            return False
        self._report_silent(step)
        opened = {"update": steps.session_opened, "score": steps.vote_opened, COUNTS: steps.counts_opened}
        self._write(opened[purpose](state, there))
        return True

    async def _give_up(self, step: str, reason: str) -> None:
        """Abort the round; or close it without counts, if it was only for them that a session was on.

        The adapter has been checked by then, and a site that stays away must not cost the others a round.
        """
        session = self._state.session
        if session is None or session.purpose != COUNTS or steps.open_round(self._state).disputed:
            self._abort(reason)
            return
        try:
            await self._close(step)  # R4.15.7
        except RoundError as error:
            self._abort(error.reason)

    def _abort(self, reason: str) -> None:
        self._write(steps.round_aborted(self._state, reason))
        self._evidence.settle()

    def _abort_reason(self, now: Waiting) -> str:
        """Say "refused" when those who declined alone put the threshold out of reach."""
        return "refused" if len(now.expected) < now.threshold else "below_threshold"

    def _report_silent(self, step: str) -> None:
        for draft in steps.deliveries_failed(self._state, step):
            self._write(draft)

    def _situation(self, now: Waiting) -> Situation:
        key = (now.step, now.round, now.sid)
        if key != self._since[0]:
            self._since = (key, self._monotonic())
            self._progress.begin()
        measures = now.step == "advertise" and steps.live_session(self._state).purpose != "update"
        step = "evaluate" if measures else now.step  # losses, or counts, are measured before keys are made
        arrived = now.arrived
        if now.step == "survivors" and self._witnesses.demanded:
            # R5.6.2: T agreements then are T cosignatures of the head that fixes the survivors.
            cosigners = self._witnesses.cosigners(steps.live_session(self._state).u3_index + 1)
            arrived = tuple(site for site in arrived if site in cosigners)
        earned = {site: self._progress.seconds(site) for site in now.expected}
        return Situation(step, now.expected, arrived, frozenset(), now.threshold, self._since[1], earned)

    def _write(self, draft: Draft) -> None:
        self._ledger.write(
            draft.type,
            draft.data,
            round_number=draft.round,
            refs=draft.refs,
            objects=draft.objects,
            reason=draft.reason,
        )

    async def _sleep(self, pause: Wait) -> None:
        """Wait for a change, at most until the pause ends."""
        left = None if pause.until is None else max(0.0, pause.until - self._monotonic())
        try:
            await asyncio.wait_for(self._changed.wait(), left)
        except TimeoutError:
            return


def software() -> str:
    """Name and version of this software, as the genesis says it."""
    try:
        return f"fedmedlora-{version('fedmedlora')}"
    except PackageNotFoundError:
        return "fedmedlora"

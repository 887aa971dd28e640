"""The steps of a round outside its secure sum: sign, plan, train, accept the aggregate, catch up.

Each step looks at the law's state, decides by this site's own charter, base and policy, and signs one event
or raises a refusal. Training runs beside the agent's other work; everything else is short.
"""

from __future__ import annotations

import asyncio
import logging

from fedmedlora_audit.event_data import (
    AggregateAccepted,
    AggregatePublished,
    Base,
    CharterSigned,
    UpdateReady,
)
from fedmedlora_audit.law import ClosedRound, Duty, Session
from fedmedlora_core.errors import CoreError, NonFiniteError
from fedmedlora_crypto.secagg.graph import commitment
from fedmedlora_crypto.xof import Keystream
from fedmedlora_protos.operating.logbook import tell
from fedmedlora_site.acceptance import model_folder
from fedmedlora_site.bases import NextBase
from fedmedlora_site.checkpoints import CHECKPOINT_NAME
from fedmedlora_site.errors import MemoryShortage, StepRefusal, TrainingError
from fedmedlora_site.personal import last_closed
from fedmedlora_site.shortage import Patience, remedy
from fedmedlora_site.spending import handed_over
from fedmedlora_site.step import StepContext
from fedmedlora_site.sum_check import SumChecker
from fedmedlora_site.training import (
    UPDATE_NAME,
    TrainingJob,
    TrainingOutcome,
    TrainingProgress,
    training_seed,
)
from fedmedlora_site.update import encode_update

_LOG = logging.getLogger(__name__)


class RoundSteps:
    """Plan, training and aggregate of one site.

    Args:
        context: What all steps share.
    """

    def __init__(self, context: StepContext) -> None:
        """Start without a training under way."""
        self._context = context
        self._held = context.held
        self._sums = SumChecker(context)
        self._training: asyncio.Task[None] | None = None
        self._training_round = 0
        self._job = b""

    async def sign(self, duty: Duty) -> bool:
        """Sign the charter: exactly the bytes that `site accept` recorded."""
        data = CharterSigned(charter=self._held.terms.digest)
        self._context.sign("charter.signed", data, duty)
        return True

    async def plan(self, duty: Duty) -> bool:
        """Accept a plan that starts from the base this site computed itself (decision G41)."""
        base = self._own_base("plan", duty)
        if duty.round is not None and duty.round > self._held.policy.max_rounds:
            raise StepRefusal("plan", "policy", f"round {duty.round} is beyond this site's policy")
        if self._held.spending is not None:
            await asyncio.to_thread(self._held.spending.judge, "plan", duty.round or 0, base)
        self._context.sign("plan.accepted", Base(base=base), duty)
        return True

    async def train(self, duty: Duty) -> bool:
        """Start the training of the round, or say that its update is ready."""
        number = duty.round or 0
        base = self._own_base("train", duty)
        if not self._held.vault.holds(self._held.update_name(number)):
            if await self._charge(number, base):
                return True
            await self._ensure_training(number, base)
            return False
        self._context.strike("train", number)
        await self._context.until_slot()
        self._context.sign("update.ready", UpdateReady(base=base, graph=self._commitment(number)), duty)
        self._context.report(number, "train", 100, 100)
        tell(_LOG, "training_done", round=number)
        return True

    async def _charge(self, number: int, base: str) -> bool:
        """Charge a private training before it starts; True when the log has to hear of it first (R4.13.5)."""
        held = self._held
        under_way = self._training is not None and self._training_round == number
        if held.spending is None or under_way:
            return False
        if held.config.trainer.processes > 1:
            sentence = (
                "a study with differential privacy is trained by one process; set trainer.processes to 1"
            )
            raise StepRefusal("train", "training_failed", f"{sentence}; nothing was charged")
        self._job, new = await asyncio.to_thread(held.spending.charge, number, base)
        if new:
            self._context.strike("charge", number)
            for name in (CHECKPOINT_NAME, UPDATE_NAME):  # of a training with other notes
                held.vault.delete(name)
        return new

    async def tell_charge(self) -> bool:
        """Sign the oldest charge that no event tells of (R4.13.7); True when there was one."""
        held = self._held
        if held.spending is None or held.mirror.size == 0:
            return False
        found = await asyncio.to_thread(held.spending.untold, [s.event for s in held.outbox.events()])
        if found is None:
            return False
        number, data = found
        plan = held.mirror.state.rounds[number].plan
        self._context.sign("dp.spent", data, Duty("train", number, None, (plan.index,)))
        return True

    def _commitment(self, number: int) -> str | None:
        """What this site will contribute to the graphs of this round, if the charter has one (R6.15.6)."""
        held = self._held
        if held.terms.graph is None:
            return None
        secret = held.keys.graph_secret(held.terms.digest, number)
        return commitment(secret, held.terms.member_ids.index(held.site) + 1).hex()

    async def aggregate(self, duty: Duty) -> bool:
        """Accept an aggregate that this site decoded, stepped and checked itself (decision G41)."""
        session = self._context.session_of(duty)
        self._need_own_sum(session)
        found = await self._derive(session)
        await self._sums.check(session)  # R4.6.2: nothing is signed before the chunks are checked
        self._held.bases.keep(found, round_number=session.round)
        self._note_clipped(session.round, found.clipped_permille)
        self._context.strike("aggregate", session.round)
        data = AggregateAccepted(
            sid=session.sid, ring=session.ring, next_base=found.digest, state=found.state_digest
        )
        self._context.sign("aggregate.accepted", data, duty)
        self._context.report(session.round, "aggregate", 1, 1)
        return True

    async def catch_up(self) -> None:
        """Compute the bases of closed rounds that this site did not see to the end.

        Raises:
            StepRefusal: A closed round's sum does not lead where the log says.
        """
        state, bases = self._held.mirror.state, self._held.bases
        missing: list[ClosedRound] = []
        for closed in reversed(state.closed_rounds):
            if bases.holds_after(closed.next_base, closed.state):
                break
            missing.append(closed)
        for closed in reversed(missing):
            bases.keep(await self._derive(state.sids[closed.sid]), round_number=closed.round)

    async def drop_training(self, round_number: int | None) -> None:
        """Stop a training of another round than this one."""
        if self._training is not None and self._training_round != round_number:
            self._training.cancel()
            await asyncio.gather(self._training, return_exceptions=True)
            self._training = None

    def _own_base(self, step: str, duty: Duty) -> str:
        """Digest of the plan's base, if this site has computed that adapter itself."""
        current = self._held.mirror.state.rounds[duty.round or 0]
        if not self._held.bases.holds(current.base):
            raise StepRefusal(step, "wrong_base", "the plan starts from an adapter this site did not compute")
        return current.base

    async def _derive(self, session: Session) -> NextBase:
        """Fetch a published sum, check it, and compare everything that follows from it with the log."""
        published = session.published
        bases = self._held.bases
        if published is None or not bases.holds(session.base):
            raise StepRefusal("aggregate", "wrong_base", "the aggregate's base was not computed here")
        ring_bytes = bases.ring_bytes(session.round)
        if self._held.mirror.object_bytes.get(session.ring) != ring_bytes:
            raise StepRefusal("aggregate", "bad_aggregate", "the published sum has a wrong length")
        data = await self._context.client.get_blob(session.ring, total_bytes=ring_bytes, resumed=True)
        found = await asyncio.to_thread(
            bases.derive, session.base, data, round_number=session.round, sites=len(published.inputs)
        )
        self._need_own_state(found, published)
        named = (published.weight_sum, published.delta, published.next_base)
        # R4.4.1: only what was computed here is believed.
        if (found.weight_sum, found.delta_digest, found.digest) != named:
            raise StepRefusal("aggregate", "bad_aggregate", "the sum does not decode to what was published")
        return found

    @staticmethod
    def _need_own_state(found: NextBase, published: AggregatePublished) -> None:
        """Judge the state like the adapter: only what was computed here is believed (R4.9.4)."""
        if (found.state_before, found.state_digest) != (published.state_before, published.state):
            raise StepRefusal("aggregate", "bad_aggregate", "the server's optimiser has another state here")

    def _need_own_sum(self, session: Session) -> None:
        """A site that decrypted a sum itself accepts no other one (R6.16.8)."""
        custody, own = self._held.terms.custody, session.responses.get(self._held.site)
        if custody is not None and custody.decrypts(self._held.site) and own not in (None, session.ring):
            raise StepRefusal("aggregate", "bad_aggregate", "this site decrypted another sum")

    def _note_clipped(self, number: int, permille: float) -> None:
        """Keep the study's mean clipped share, and warn this site's operator above the limit (R4.5.7)."""
        held = self._held
        limit = held.study.secure_aggregation.clipped_warn_permille
        held.clipping.record_study(number, permille, warned=permille > limit)
        self._context.report_clipped(number, permille, warned=permille > limit)

    async def _ensure_training(self, number: int, base: str) -> None:
        await self.drop_training(number)
        if self._training is not None and self._training.done():
            task, self._training = self._training, None
            task.result()  # raises what went wrong
        if self._training is None:
            self._training_round = number
            tell(_LOG, "training_started", round=number)
            self._training = asyncio.create_task(self._train(number, base))
            self._training.add_done_callback(lambda _: self._context.wake())

    async def _train(self, number: int, base: str) -> None:
        """Train, encode, and keep the encoded update for every attempt of the round (decision 11)."""
        held, private = self._held, self._job
        await asyncio.to_thread(held.bases.adapter, base)  # the trainer must not start from a damaged one
        job = TrainingJob(
            charter=str(held.folder.charter),
            base_model=str(model_folder(held.config)),
            adapter=str(held.bases.folder(base)),
            notes=str(held.folder.notes),
            vault=str(held.folder.updates),
            storage_key=str(held.folder.keys / "storage.key"),
            site=held.site,
            round=number,
            seed=training_seed(held.study.study.seed, held.site, number),
            dimension=held.study.update_dimension(number),
            extras=held.study.extras,
            personal=str(held.folder.personal) if held.study.adapter.mode == "sa" else "",
            personal_from=last_closed(held.personal, held.mirror.state),
            device=held.config.trainer.device,
            processes=held.config.trainer.processes,
            checkpoint_seconds=held.config.trainer.checkpoint_seconds,
            noise_key="" if held.spending is None else str(held.folder.noise_key),
            micro_batch=held.config.trainer.micro_batch,
            gradient_checkpointing=held.config.trainer.gradient_checkpointing,
        )
        try:
            outcome = await self._outcome(job, private)
        except TrainingError as exc:
            raise StepRefusal("train", exc.reason, str(exc)) from None
        if held.spending is not None and await asyncio.to_thread(held.spending.job, number, base) != private:
            raise StepRefusal(
                "train", "training_failed", "the notes changed during the training; nothing is sent"
            )
        await asyncio.to_thread(self._encode, number, base, outcome)

    async def _outcome(self, job: TrainingJob, private: bytes) -> TrainingOutcome:
        """Have the trainer do a job, and again from its last state where the memory did not suffice."""
        held, standing = self._held, self._context.standing
        trainer = held.config.trainer
        patience = Patience(trainer.memory_retry_seconds, trainer.memory_patience_seconds)

        def said(progress: TrainingProgress) -> None:
            standing.short = False
            patience.got_to(progress.percent)
            if progress.percent < 100:  # the last step is said when the update is ready
                self._context.report(job.round, "train", progress.percent, 100)
                self._context.strike("train", job.round)

        try:
            while True:
                try:
                    with handed_over(held.spending, private, held.folder.noise_key):
                        return await self._context.trainer.train(job, said)
                except MemoryShortage as exc:
                    sentence = f"{exc}; {remedy(held.study, trainer)}"
                    pause = patience.pause()
                    if pause is None:
                        raise MemoryShortage(sentence) from None
                standing.short = True
                tell(_LOG, "memory_short", round=job.round, detail=sentence, seconds=pause)
                await asyncio.sleep(pause)
        finally:
            standing.short = False

    def _encode(self, number: int, base: str, outcome: TrainingOutcome) -> None:
        """Encode an update with this round's own rounding stream and keep it for every attempt."""
        study, held = self._held.study, self._held
        # R4.1.3: the stream follows from the site's secret and the round; the result is kept.
        stream = Keystream(held.keys.rounding_key(study.study.id, number))
        threads = held.config.performance.threads
        try:
            encoded, permille = encode_update(
                study,
                held.bases.rule,
                outcome,
                stream,
                site=held.site,
                round_number=number,
                base=base,
                noise_key=held.keys.site_noise_key,
                threads=threads,
            )
        except NonFiniteError as exc:
            raise StepRefusal("train", "not_finite", f"nothing is sent: {exc}") from None
        except CoreError as exc:
            raise StepRefusal("train", "training_failed", str(exc)) from None
        held.clipping.record_own(number, permille)
        held.vault.store_ring(held.update_name(number), encoded)

"""This site's part in a vote on a new adapter: measure, vote once, and count again (PROTOCOL §4.7).

Losses are measured before the session's keys are made, in the trainer's process and beside the agent's other
work. The vote itself goes through `session_steps`, like an update.
"""

from __future__ import annotations

import asyncio

from fedmedlora_audit.event_data import VotesCounted
from fedmedlora_audit.law import Duty, Session
from fedmedlora_core.errors import VoteError
from fedmedlora_core.vote import count_votes
from fedmedlora_crypto.errors import CryptoError
from fedmedlora_site.acceptance import model_folder
from fedmedlora_site.errors import StepRefusal, TrainingError
from fedmedlora_site.evaluation import EvaluationJob
from fedmedlora_site.measuring import MeasuredSteps
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_site.step import StepContext
from fedmedlora_site.summed import need_accepted, opened_sum, vector_name
from fedmedlora_site.vote import cast


class VoteSteps(MeasuredSteps):
    """The steps of a vote that are not those of any secure sum.

    Args:
        context: What all steps share.
        sessions: The steps of a secure sum.
    """

    def __init__(self, context: StepContext, sessions: SessionSteps) -> None:
        """Start without a measurement under way."""
        super().__init__(context, sessions)
        self._settled = 0  # rounds that are over and were looked at

    async def count(self, duty: Duty) -> bool:
        """Count the opened votes again and say so, or refuse the published count."""
        session = self._context.session_of(duty)
        found = VotesCounted(sid=session.sid, voters=len(session.u3), against=await self._recounted(session))
        if found != session.counted:  # R4.7.5: the coordinator's word is not enough
            raise StepRefusal("count", "wrong_count", "the opened votes give another count than published")
        self._context.strike("count", session.round)
        self._context.sign("votes.checked", found, duty)
        self._context.report(session.round, "count", 1, 1)
        return True

    def forget_refused(self) -> None:
        """Delete adapters of rounds that ended without taking them (R4.7.7)."""
        state = self._held.mirror.state
        while (over := state.rounds.get(self._settled + 1)) is not None and over.outcome is not None:
            self._settled += 1
            if over.outcome == "closed" or over.summed is None or over.summed.published is None:
                continue
            refused = over.summed.published.next_base
            if refused not in {state.base, *(closed.next_base for closed in state.closed_rounds)}:
                self._held.bases.forget(refused)

    def _need_checked(self, step: str, session: Session) -> None:
        """Vote only where the charter asks for it, on the adapter that this site accepted itself (R4.7.2)."""
        if not self._held.terms.votes_in(session.round):
            raise StepRefusal(step, "wrong_charter", "the charter asks for no vote in this round")
        need_accepted(self._held, step, session, "the vote is on")

    async def _measure(self, session: Session) -> None:
        """Compare the two adapters on the held-out notes and keep the vote, the same for every attempt."""
        held = self._held
        before = held.mirror.state.rounds[session.round].base
        for base in (before, session.base):  # the trainer must not read a damaged one
            await asyncio.to_thread(held.bases.adapter, base)
        job = EvaluationJob(
            charter=str(held.folder.charter),
            base_model=str(model_folder(held.config)),
            before=str(held.bases.folder(before)),
            after=str(held.bases.folder(session.base)),
            notes=str(held.folder.notes),
            device=held.config.trainer.device,
        )
        terms = held.study.secure_aggregation.vote
        try:
            outcome = await self._context.trainer.evaluate(job)
        except TrainingError as exc:
            raise StepRefusal("advertise", exc.reason, str(exc)) from None
        margin = 0 if terms is None else terms.margin_milli
        vote = cast(outcome, margin_milli=margin, n=held.terms.n)
        held.vault.store_ring(vector_name(held, session), vote)

    async def _recounted(self, session: Session) -> int:
        opened = self._sessions.opened_before(session, session.counted_index)
        payloads = await self._sessions.fetch_evidence("count", session, opened)
        try:
            total = await asyncio.to_thread(opened_sum, self._held, session, opened, payloads)
            return count_votes(total, voters=len(session.u3), n=self._held.terms.n)
        except (CryptoError, VoteError) as exc:
            raise StepRefusal("count", "wrong_count", f"the opened votes cannot be counted: {exc}") from None

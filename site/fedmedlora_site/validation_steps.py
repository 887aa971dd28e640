"""This site's part in summed validation counts: count its own held-out notes, and sum again (PROTOCOL §4.15).

Counts are made before the session's keys are, in the trainer's process. The vector itself goes through
`session_steps`, like an update.
"""

from __future__ import annotations

import asyncio

from fedmedlora_audit.law import Duty, Session
from fedmedlora_audit.validation_data import TypeCounts, ValidationCounted
from fedmedlora_core.errors import CodecError
from fedmedlora_core.scores import MatchScore
from fedmedlora_core.scores.counts import Counts
from fedmedlora_core.study import Study
from fedmedlora_core.validation_counts import CountLayout, ValidationCounts
from fedmedlora_crypto.errors import CryptoError
from fedmedlora_site.acceptance import model_folder
from fedmedlora_site.errors import StepRefusal, TrainingError
from fedmedlora_site.evaluation import CountingJob
from fedmedlora_site.measuring import MeasuredSteps
from fedmedlora_site.summed import need_accepted, opened_sum, vector_name


class ValidationSteps(MeasuredSteps):
    """The steps of summed validation counts that are not those of any secure sum."""

    async def tally(self, duty: Duty) -> bool:
        """Sum the opened counts again and say so, or refuse the published ones."""
        session = self._context.session_of(duty)
        found = await self._summed(session)
        if found != session.tallied:  # R4.15.6: the coordinator's word is not enough
            raise StepRefusal("tally", "wrong_count", "the opened counts give another sum than published")
        self._context.strike("tally", session.round)
        self._context.sign("validation.checked", found, duty)
        self._context.report(session.round, "tally", 1, 1)
        return True

    def _need_checked(self, step: str, session: Session) -> None:
        """Count only where the charter asks for it, with an adapter that this site accepted (R4.15.1)."""
        if not self._held.terms.counts_in(session.round):
            raise StepRefusal(step, "wrong_charter", "the charter asks for no counts in this round")
        need_accepted(self._held, step, session, "the counts are of")

    async def _measure(self, session: Session) -> None:
        """Count with the new adapter and keep the counts, the same for every attempt."""
        held = self._held
        await asyncio.to_thread(held.bases.adapter, session.base)  # the trainer must not read a damaged one
        job = CountingJob(
            charter=str(held.folder.charter),
            base_model=str(model_folder(held.config)),
            adapter=str(held.bases.folder(session.base)),
            notes=str(held.folder.notes),
            device=held.config.trainer.device,
        )
        try:
            counts = await self._context.trainer.count(job)
            vector = CountLayout.of(held.study).encode(annotated_only(counts, held.study, held.site))
        except TrainingError as exc:
            raise StepRefusal("advertise", exc.reason, str(exc)) from None
        except CodecError as exc:  # R4.15.3: a count that does not fit is refused here, never cut
            raise StepRefusal("advertise", "evaluation_failed", str(exc)) from None
        held.vault.store_ring(vector_name(held, session), vector)

    async def _summed(self, session: Session) -> ValidationCounted:
        opened = self._sessions.opened_before(session, session.tallied_index)
        payloads = await self._sessions.fetch_evidence("tally", session, opened)
        layout = CountLayout.of(self._held.study, session.ready)
        try:
            total = await asyncio.to_thread(opened_sum, self._held, session, opened, payloads)
            found = layout.decode(total, voters=len(session.u3))
        except (CryptoError, CodecError) as exc:
            raise StepRefusal("tally", "wrong_count", f"the opened counts cannot be read: {exc}") from None
        return ValidationCounted(
            sid=session.sid,
            sites=len(session.u3),
            entities=tuple(_row(found.entities.per_type[label]) for label in layout.entities),
            relations=tuple(_row(found.relations.per_type[label]) for label in layout.relations),
        )


def annotated_only(counts: ValidationCounts, study: Study, site: str) -> ValidationCounts:
    """Leave out the types that this site does not annotate: only those that do count a type (R4.15.3)."""
    annotated = next(member.annotated for member in study.members if member.id == site)

    def own(score: MatchScore) -> MatchScore:
        return MatchScore({label: found for label, found in score.per_type.items() if label in annotated})

    return ValidationCounts(own(counts.entities), own(counts.relations))


def _row(counts: Counts) -> TypeCounts:
    return TypeCounts(tp=counts.tp, fp=counts.fp, fn=counts.fn)

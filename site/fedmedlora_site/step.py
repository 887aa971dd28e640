"""What the steps of the agent share: holdings, wire, trainer, fault plan and progress."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TextIO

from fedmedlora_audit.event_data import Data
from fedmedlora_audit.events import Object
from fedmedlora_audit.law import Duty, Session
from fedmedlora_site.blobs import UploadFile
from fedmedlora_site.client import Wire
from fedmedlora_site.errors import StepRefusal
from fedmedlora_site.faults import FaultPlan
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.metrics import Standing
from fedmedlora_site.training import Trainer


@dataclass(frozen=True, repr=False)
class StepContext:
    """Handed to every step.

    Args:
        held: The site's durable state.
        client: The wire.
        trainer: Who trains.
        wake: Makes the agent look at its duties again.
        faults: Where to die, in a fault test.
        out: Where progress lines go, or None.
        standing: What this process knows of its own work, for its operator.
    """

    held: Holdings
    client: Wire
    trainer: Trainer
    wake: Callable[[], None]
    faults: FaultPlan | None = None
    out: TextIO | None = None
    standing: Standing = field(default_factory=Standing)

    def sign(
        self,
        type: str,
        data: Data,
        duty: Duty,
        *,
        payload: tuple[str, UploadFile] | None = None,
    ) -> None:
        """Sign the event that answers a duty; the agent sends it.

        Args:
            type: Type of the event.
            data: Its data.
            duty: What it answers.
            payload: (role, file) of the blob that goes with it.
        """
        held = self.held
        held.outbox.sign(
            type=type,
            data=data,
            saw=held.mirror.saw,
            time=datetime.now(UTC),
            round=duty.round,
            refs=self._refs(duty.answers),
            objects=() if payload is None else (_object(*payload),),
        )

    def session_of(self, duty: Duty) -> Session:
        """The law's view of the duty's session."""
        session = self.held.mirror.state.sids.get(duty.sid or "")
        if session is None:
            raise StepRefusal(duty.step, "wrong_sid", "the duty names no session")
        return session

    def strike(self, step: str, round_number: int) -> None:
        """Die here, if the fault plan says so."""
        if self.faults is not None:
            self.faults.strike(step, round_number, children=self.trainer.child_processes())

    async def until_slot(self) -> None:
        """Wait for the next slot of the clock, so that readiness tells less of the work's length (G47)."""
        slot = self.held.config.trainer.ready_slot_seconds
        if slot > 1:
            now = datetime.now(UTC).timestamp()
            deadline = time.monotonic() + (slot - now % slot)
            await asyncio.sleep(max(0.0, deadline - time.monotonic()))

    def report(self, round_number: int, step: str, done: int, total: int) -> None:
        """Write one progress line; it never holds a loss, a size or text."""
        if step == "train":
            self.standing.trained(round_number, done, total)
        if self.out is not None:
            line = {"round": round_number, "step": step, "done": done, "total": total}
            self.out.write(json.dumps(line) + "\n")
            self.out.flush()

    def report_clipped(self, round_number: int, permille: float, *, warned: bool) -> None:
        """Write the study's mean share of clipped values; it is public among the members (PROTOCOL §4.5)."""
        if self.out is not None:
            line = {"round": round_number, "clipped_permille": round(permille, 1), "warning": warned}
            self.out.write(json.dumps(line) + "\n")
            self.out.flush()

    def _refs(self, answers: Sequence[int]) -> tuple[str, ...]:
        entries = self.held.mirror.entries
        return tuple(entries[index].leaf.hex() for index in answers)


def _object(role: str, upload: UploadFile) -> Object:
    return Object.model_validate({"role": role, "digest": upload.digest, "bytes": upload.total_bytes})

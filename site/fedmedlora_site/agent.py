"""The agent: one process that takes part in a study on behalf of its site (PROTOCOL §5, §6).

One loop. The log arrives over Watch and is verified and folded (`mirror`); the law says what this site
owes (`duties`); a step decides and signs (`round_steps`, `session_steps`); the outbox is sent until the
mirror holds it. At most one own event is on its way, and no step builds on an event that is not in the log.

What goes wrong goes one of three ways: the connection (try again, jittered), a step this site refuses
(journal, `step.refused`, its part in that session ends), a log that contradicts itself or the law (journal,
evidence, stop). No secret leaves in any of them.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from fedmedlora_audit.cosignature import is_cosigned_after
from fedmedlora_audit.errors import AuditError
from fedmedlora_audit.event_data import StepRefused
from fedmedlora_audit.events import COORDINATOR_ID, Entry, open_event
from fedmedlora_audit.law import Duty, duties, waiting
from fedmedlora_audit.law.state import COUNTS
from fedmedlora_protos import wire
from fedmedlora_protos.operating.local_page import LocalPage
from fedmedlora_protos.operating.logbook import tell
from fedmedlora_protos.operating.vitals import WriteProbe
from fedmedlora_site.client import Wire, backoff_seconds
from fedmedlora_site.connection import dial
from fedmedlora_site.errors import (
    FolderError,
    ForkError,
    RejectedError,
    SiteError,
    StepRefusal,
    StoppedError,
    TransportError,
)
from fedmedlora_site.farewell import Farewell
from fedmedlora_site.faults import FaultPlan
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.holdings import FolderLock, Holdings
from fedmedlora_site.metrics import REGISTRY, Standing
from fedmedlora_site.outbox import Signed
from fedmedlora_site.personal import tidy
from fedmedlora_site.pulse import Pulse
from fedmedlora_site.round_steps import RoundSteps
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_site.step import StepContext
from fedmedlora_site.summed import VOTE
from fedmedlora_site.training import Trainer, trainer_of
from fedmedlora_site.validation_steps import ValidationSteps
from fedmedlora_site.vote_steps import VoteSteps

_LOG = logging.getLogger(__name__)
MOST_REJECTIONS = 8
FAREWELL_ATTEMPTS = 3
_SUM_STEPS = ("advertise", "share", "upload", "survivors", "unmask", "aggregate", "count", "tally")
_OWN_STEPS = ("sign", "plan", "train", *_SUM_STEPS)


def run(
    root: Path,
    *,
    progress: bool = False,
    die_at: str | None = None,
    trainer: Trainer | None = None,
    out: TextIO | None = None,
) -> None:
    """Take part in the accepted study until its run is closed (blocking).

    Args:
        root: The site's folder.
        progress: Write JSON lines {round, step, done, total} to `out`.
        die_at: Fault injection, "STEP:ROUND" (see `faults`).
        trainer: Replaces the trainer that `site.toml` asks for; for tests.
        out: Where progress goes; standard output when None.

    Raises:
        FolderError: The folder does not fit together, or another agent runs on it.
        ForkError: The log contradicts itself or the law; the evidence is in `run/mirror/evidence`.
        SiteError: The run ended without a model.
    """
    faults = FaultPlan.parse(die_at) if die_at else None
    folder = SiteFolder.open(root)
    lock = FolderLock(folder.lock)
    try:
        held = Holdings.open(root)
        if not folder.notes.is_file():
            raise FolderError(f"{root}: has no notes to train on; run `site import` first")
        worker = trainer or trainer_of(held.config.trainer, folder.run / "trainer.log")
        asyncio.run(_run(held, worker, faults, (out or sys.stdout) if progress else None))
    finally:
        lock.release()


async def _run(held: Holdings, trainer: Trainer, faults: FaultPlan | None, out: TextIO | None) -> None:
    """Run one agent; SIGTERM and SIGINT end it in order."""
    agent = Agent(held, trainer, faults=faults, out=out)
    pulse = Pulse(held, agent.standing)
    page = LocalPage(held.config.metrics.listen, REGISTRY, pulse.health, WriteProbe(held.folder.run))
    tell(_LOG, "taking_part", site=held.site, address=held.config.site.coordinator_address)
    seeing = asyncio.create_task(pulse.run())
    task = asyncio.create_task(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in a side thread
            loop.add_signal_handler(number, task.cancel, number)
    try:
        with page:
            await task
    except asyncio.CancelledError as exc:
        raise StoppedError(*exc.args) from None
    finally:
        seeing.cancel()
        await asyncio.gather(seeing, return_exceptions=True)
        await agent.close()


class Agent:
    """One site's part in one run.

    Args:
        held: The site's durable state.
        trainer: Who trains.
        client: The connection; None dials the coordinator of `site.toml`.
        faults: Where to die, in a fault test.
        out: Where progress lines go, or None.
    """

    def __init__(
        self,
        held: Holdings,
        trainer: Trainer,
        *,
        client: Wire | None = None,
        faults: FaultPlan | None = None,
        out: TextIO | None = None,
    ) -> None:
        """Wire the parts; nothing is sent yet."""
        self._held = held
        self._network = held.config.network
        self._client = client or dial(held)
        self._wake = asyncio.Event()
        self._trainer = trainer
        self.standing = Standing()
        context = StepContext(held, self._client, trainer, self._wake.set, faults, out, self.standing)
        self._rounds, self._sessions = RoundSteps(context), SessionSteps(context)
        self._votes = VoteSteps(context, self._sessions)
        self._counts = ValidationSteps(context, self._sessions)
        self._measuring: dict[str, VoteSteps | ValidationSteps] = {VOTE: self._votes, COUNTS: self._counts}
        self._context, self._farewell = context, Farewell(held, self._wake.set)
        self._sent: set[bytes] = set()
        self._promised: dict[int, bytes] = {}
        self._failures = 0
        self._rejections = 0
        self._steps: dict[str, Callable[[Duty], Awaitable[bool]]] = {
            "sign": self._rounds.sign,
            "plan": self._rounds.plan,
            "train": self._rounds.train,
            "advertise": self._advertise,
            "share": self._sessions.share,
            "upload": self._sessions.upload,
            "survivors": self._sessions.survivors,
            "unmask": self._sessions.unmask,
            "aggregate": self._rounds.aggregate,
            "count": self._votes.count,
            "tally": self._counts.tally,
            "erase": self._sessions.erase,
        }

    async def close(self) -> None:
        """Stop the training, drop all secrets, close the channel."""
        await self._rounds.drop_training(None)
        for steps in self._measuring.values():
            await steps.drop(None)
        self._sessions.drop()
        await self._trainer.close()
        await self._client.close()

    async def run(self) -> None:
        """Take part until the run is closed, or this site has left."""
        await self._follow_to_the_end()
        state = self._held.mirror.state
        if state.released is None and self._held.site not in state.book.left:
            raise SiteError("the run was closed without a model")

    async def _follow_to_the_end(self) -> None:
        """Follow the log until nothing is left to do, reconnecting as often as it takes."""
        self._witness(self._held.mirror.entries[-1:])  # a head that came just before an earlier process died
        while True:
            try:
                await self._follow()
            except TransportError:
                self.standing.lost()
                if self._failures == 0:
                    tell(_LOG, "connection_lost", address=self._held.config.site.coordinator_address)
                if self._is_over and self._failures >= FAREWELL_ATTEMPTS:
                    break  # the run is over and the coordinator gone: what is owed now binds nobody
                await asyncio.sleep(backoff_seconds(min(self._failures, 16), self._network))
                self._failures += 1
            except ForkError as exc:
                await self._stop_on_fork(exc)
                raise
            else:
                break

    async def _follow(self) -> None:
        """Act on one connection until the run is closed; a broken connection is a TransportError."""
        self._sent.clear()
        pump = asyncio.create_task(self._pump())
        try:
            while not await self._act():
                waker = asyncio.create_task(self._wake.wait())
                await asyncio.wait({waker, pump}, return_when=asyncio.FIRST_COMPLETED)
                waker.cancel()
                if pump.done():
                    pump.result()
                self._wake.clear()
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self) -> None:
        """Verify and fold what the log's stream brings."""
        mirror = self._held.mirror
        try:
            async for batch in self._client.watch(mirror.size):
                fresh = mirror.extend(
                    batch.start_index, batch.notes, batch.checkpoint, self._held.outbox.leaf
                )
                if self.standing.reached():
                    tell(_LOG, "connected", address=self._held.config.site.coordinator_address)
                mirror.take_cosigned(batch.cosigned)
                self._witness(fresh)
                self._check_promises()
                self._failures = 0
                self._wake.set()
        except RejectedError as exc:
            if exc.reason != wire.Reason.AHEAD_OF_LOG:
                raise
            raise ForkError("log_forked", "the coordinator's log is shorter than a head it signed") from None

    def _witness(self, fresh: Sequence[Entry]) -> None:
        """Cosign the head of a batch if it is one that witnesses sign (R5.6.1)."""
        held = self._held
        held.witness.compare(held.mirror.tree)
        demanded = "C3" in held.terms.demands
        if demanded and fresh and is_cosigned_after(fresh[-1].event.type) and held.mirror.head is not None:
            held.witness.sign(held.mirror.head)

    async def _hand_in_cosignatures(self) -> None:
        """Send what the coordinator has not acknowledged."""
        witness = self._held.witness
        for cosignature in witness.unsent:
            try:
                await self._client.cosign(*cosignature)
            except RejectedError as exc:
                raise TransportError(str(exc)) from None
            witness.acknowledged(cosignature)

    def _check_promises(self) -> None:
        """A receipt promised an event a place in the log: it must be there, and the log must reach it."""
        entries = self._held.mirror.entries
        for index in [i for i in self._promised if i < len(entries)]:
            if entries[index].leaf != self._promised.pop(index):
                raise ForkError("log_forked", f"entry {index} is not the event that a receipt promised")
        if self._promised and self._held.mirror.state.log_closed:
            raise ForkError(
                "log_forked", f"the log never reached entry {min(self._promised)}, which a receipt promised"
            )

    async def _act(self) -> bool:
        """Do whatever can be done now; True when the run is over for this site."""
        while True:
            state = self._held.mirror.state
            await self._hand_in_cosignatures()
            if not await self._send():
                return False
            if self._held.site in state.book.left:
                return True
            current = state.round
            # Before what it left is deleted: a training that goes on would leave a state behind.
            await self._rounds.drop_training(current.number if current and not current.sessions else None)
            self._tidy()
            if self._held.tell_refusal() or await self._rounds.tell_charge():
                continue
            duty = self._duty()
            for steps in self._measuring.values():
                await steps.drop(state.session.sid if state.session else None)
            if duty is not None and await self._perform(duty):
                continue
            if not await self._caught_up():
                continue
            if self._held.witness.unsent:  # of a head that came meanwhile
                continue
            return state.run_closed and duty is None and self._farewell.may_go()

    @property
    def _is_over(self) -> bool:
        """Whether nothing more is asked of this site: the run was closed, or the site has left."""
        state = self._held.mirror.state
        return state.run_closed or self._held.site in state.book.left

    def _duty(self) -> Duty | None:
        """What this site owes and has not refused."""
        if self._held.mirror.size == 0:
            return None
        duty = duties(self._held.mirror.state, self._held.site) or self._sessions.lost_session()
        if duty is None or self._held.journal.has(duty.step, duty.round, duty.sid):
            return None
        return duty

    async def _advertise(self, duty: Duty) -> bool:
        purpose = self._context.session_of(duty).purpose
        return await self._measuring.get(purpose, self._sessions).advertise(duty)

    async def _perform(self, duty: Duty) -> bool:
        """Take one step; True when it signed something."""
        try:
            if duty.step in ("plan", "aggregate"):
                await self._rounds.catch_up()
            return await self._steps[duty.step](duty)
        except StepRefusal as exc:
            self._refuse(exc, duty)
        except ForkError as exc:  # a payload that is not what the log names
            self._refuse(StepRefusal(duty.step, exc.reason, str(exc)), duty)
        except RejectedError as exc:
            raise TransportError(str(exc)) from None
        return True

    async def _caught_up(self) -> bool:
        """Derive the bases of closed rounds; False when that led to a refusal to be sent."""
        try:
            await self._rounds.catch_up()
        except (StepRefusal, ForkError) as exc:
            closed = self._held.mirror.state.closed_rounds
            duty = Duty("aggregate", len(self._held.mirror.state.rounds), closed[-1].sid, ())
            if self._held.journal.has(duty.step, duty.round, duty.sid):
                return True
            self._refuse(StepRefusal(duty.step, exc.reason, str(exc)), duty)
            return False
        except RejectedError as exc:
            raise TransportError(str(exc)) from None
        return True

    def _refuse(self, refusal: StepRefusal, duty: Duty) -> None:
        """Journal first, then the event; the secrets of the session are gone before either."""
        tell(_LOG, "step_refused", step=duty.step, round=duty.round, reason=refusal.reason)
        if duty.sid is not None:
            self._sessions.drop()
        self._held.record_refusal(
            step=duty.step,
            reason=refusal.reason,
            round_number=duty.round,
            sid=duty.sid,
            sentence=str(refusal),
        )
        if self._held.outbox.has_refused(duty.step, duty.round, duty.sid):
            return  # said by a process whose journal was lost since: to say it again is against the law
        data = {"step": duty.step, "reason": refusal.reason, "sid": duty.sid}
        self._context.sign("step.refused", StepRefused.model_validate(data), duty)

    async def _send(self) -> bool:
        """Send own events that the log does not hold; True when there is none."""
        held = self._held
        for signed in held.outbox.unlogged(held.mirror.own_seq):
            if signed.leaf not in self._sent:
                await self._submit(signed)
                self._sent.add(signed.leaf)
            return False
        return True

    async def _submit(self, signed: Signed) -> None:
        """Upload the event's payload, hand the event in, and keep the receipt."""
        held = self._held
        try:
            for item in signed.event.objects:
                await self._client.put_blob(await asyncio.to_thread(held.uploads.open, item.digest))
            receipt, index = await self._client.submit(signed.note)
        except RejectedError as exc:
            self._rejections += 1
            if self._rejections > MOST_REJECTIONS:
                raise
            raise TransportError(str(exc)) from None
        self._rejections = 0
        self._check_receipt(receipt, signed, index)
        held.outbox.file_receipt(signed.event.seq, receipt)
        self._promised[index] = signed.leaf
        self._check_promises()  # of an entry that came before its receipt, or that holds something else

    def _check_receipt(self, receipt: bytes, signed: Signed, index: int) -> None:
        """The answer must be the coordinator's own signed receipt for this very event, at this index.

        R5.1.2: the index in the answer is nobody's word. The receipt's `saw` is: what the coordinator had
        before the event, so its size is the event's index.
        """
        try:
            event = open_event(receipt, self._held.mirror.state.book.events[COORDINATOR_ID])
        except AuditError as exc:
            raise ForkError("wrong_key", f"the receipt of event {signed.event.seq}: {exc}") from None
        if event.type != "receipt" or event.refs != (signed.leaf.hex(),):
            raise ForkError("wrong_digest", f"the receipt of event {signed.event.seq} is for another event")
        if event.saw.size != index:
            raise ForkError(
                "log_forked",
                f"the receipt of event {signed.event.seq} is for entry {event.saw.size}, not {index}",
            )

    def _tidy(self) -> None:
        """Delete updates and payloads of rounds that are over."""
        held = self._held
        self._votes.forget_refused()
        if held.mirror.state.round is None and held.vault.names():
            self._sessions.drop()
            for name in held.vault.names():
                held.vault.delete(name)
            held.uploads.keep_only(())
        if held.mirror.state.round is None:
            tidy(held.personal, held.mirror.state)
            held.folder.noise_key.unlink(missing_ok=True)

    async def _stop_on_fork(self, exc: ForkError) -> None:
        """Journal the violation and tell the coordinator, if it will listen; then the agent stops."""
        tell(_LOG, "log_forked", reason=exc.reason)
        self._sessions.drop()
        held, state = self._held, self._held.mirror.state
        step = waiting(state).step
        known = step if step in _OWN_STEPS else "plan"
        if held.journal.has(known, None, None):
            return
        held.record_refusal(step=known, reason=exc.reason, round_number=None, sid=None, sentence=str(exc))
        if held.mirror.size == 0 or held.outbox.has_refused(known, None, None):
            return
        data = StepRefused.model_validate({"step": known, "reason": exc.reason})
        signed = held.outbox.sign(type="step.refused", data=data, saw=held.mirror.saw, time=datetime.now(UTC))
        with suppress(SiteError):
            await self._client.submit(signed.note)

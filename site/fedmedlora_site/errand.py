"""What a site's operator says of the site itself, between two runs of its agent: new keys, or that it leaves.

The command takes the agent's place for a moment: the same lock, mirror and outbox, the same connection. It
sends what an earlier process has signed, signs what it came for, and is done when its own mirror holds it. A
kill at any moment leaves a folder from which the same command, or `site run`, goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from fedmedlora_audit.event_data import Data, KeyRotated, SiteLeft
from fedmedlora_audit.member_keys import rotation_data
from fedmedlora_site.agent import Agent
from fedmedlora_site.client import Wire
from fedmedlora_site.errors import SiteError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.holdings import FolderLock, Holdings
from fedmedlora_site.key_ring import Kind
from fedmedlora_site.training import trainer_of

ERRAND_SECONDS: Final = 120.0
"""How long an errand waits for the coordinator and the log."""


class Message(NamedTuple):
    """One event to hand in: type, the key that it is about if any, and what makes its data in its turn."""

    type: str
    about: str
    make: Callable[[Holdings], Data]


def rotate_keys(root: Path, kinds: Iterable[Kind], *, seconds: float = ERRAND_SECONDS) -> dict[str, str]:
    """Bring new keys into the running study's log; returns once they are in force (blocking).

    Args:
        root: The site's folder; no agent may be running on it.
        kinds: Which keys.
        seconds: How long to wait.

    Returns:
        Id of the key in use by kind.

    Raises:
        FolderError: The folder does not fit together, or an agent runs on it.
        SiteError: The log did not take the keys in; what was drawn and signed stays for another try.
    """
    wanted = tuple(dict.fromkeys(kinds))
    messages = [Message("key.rotated", kind, partial(_rotation, kind)) for kind in wanted]
    held = _run(root, messages, seconds)
    held.ring.settle(held.mirror.state.book)
    return {kind: held.mirror.state.book.key_of(held.site, kind).key_id for kind in wanted}


def leave(root: Path, *, seconds: float = ERRAND_SECONDS) -> int:
    """Leave the study for good; returns the number of members that remain (blocking).

    Args:
        root: The site's folder; no agent may be running on it.
        seconds: How long to wait.

    Raises:
        FolderError: The folder does not fit together, or an agent runs on it.
        SiteError: The log did not take it in.
    """
    message = Message("site.left", "", lambda held: SiteLeft(charter=held.terms.digest))
    held = _run(root, [message], seconds)
    return len(held.mirror.state.remaining)


def _rotation(kind: Kind, held: Holdings) -> KeyRotated:
    book = held.mirror.state.book
    return rotation_data(
        origin=held.terms.origin,
        charter=held.terms.digest,
        kind=kind,
        old=held.ring.need(book.key_of(held.site, kind)),
        new=held.ring.drawn(kind),
    )


def _run(root: Path, messages: list[Message], seconds: float) -> Holdings:
    folder = SiteFolder.open(root)
    lock = FolderLock(folder.lock)
    try:
        held = Holdings.open(root)
        asyncio.run(_deliver(held, messages, seconds))
        return held
    finally:
        lock.release()


async def _deliver(held: Holdings, messages: list[Message], seconds: float) -> None:
    errand = Errand(held, messages)
    try:
        async with asyncio.timeout(seconds):
            await errand.run()
    except TimeoutError:
        raise SiteError(
            f"the log did not take it in within {seconds:.0f} s; is the coordinator serving, is the run "
            "open? Give the same command again"
        ) from None
    finally:
        await errand.close()


class Errand(Agent):
    """An agent that takes no part in rounds: it hands in what it came for and ends.

    Args:
        held: The site's durable state.
        messages: What to say, in this order, each once the one before is in the log.
        client: The connection; None dials the coordinator of `site.toml`.
    """

    def __init__(self, held: Holdings, messages: Iterable[Message], *, client: Wire | None = None) -> None:
        """Leave out what an earlier process has signed already."""
        super().__init__(
            held, trainer_of(held.config.trainer, held.folder.run / "trainer.log"), client=client
        )
        unlogged = held.outbox.unlogged(held.mirror.own_seq)
        signed = {(s.event.type, getattr(s.event.data, "key", "")) for s in unlogged}
        self._messages = [m for m in messages if (m.type, m.about) not in signed]
        self._seen = False

    async def run(self) -> None:
        """Follow the log until everything is said and heard."""
        await self._follow_to_the_end()

    def _check_promises(self) -> None:
        super()._check_promises()
        self._seen = True

    async def _act(self) -> bool:
        """Say the next thing; True once all of it is in the log."""
        await self._hand_in_cosignatures()
        while await self._send():
            if not self._messages:
                return True
            state = self._held.mirror.state
            if not self._seen or not state.run_opened:
                return False
            message = self._messages[0]
            self._need_allowed(message)
            data = message.make(self._held)
            self._held.outbox.sign(
                type=message.type, data=data, saw=self._held.mirror.saw, time=datetime.now(UTC)
            )
            del self._messages[0]
        return False

    def _need_allowed(self, message: Message) -> None:
        """Sign nothing that the log will never take.

        Raises:
            SiteError: It will not.
        """
        held, state = self._held, self._held.mirror.state
        if held.site in state.book.left:
            raise SiteError("this site has left the study; it says nothing more in it")
        if state.log_closed or state.retention.pruned:
            raise SiteError("the log of this study is closed")
        if state.rotated.get((held.site, message.about)) == len(state.rounds):
            raise SiteError(
                f"the {message.about} key was changed in this round already; wait for the next plan"
            )

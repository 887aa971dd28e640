"""The agent's connection on the stage: straight into log and blobs, with the faults that a test asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from fedmedlora_audit.blob import blob_digest
from fedmedlora_audit.cosignature import checkpoint_of, cosign, is_cosigned_after, with_cosignatures
from fedmedlora_audit.events import Entry, parse_event
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_site.blobs import UploadFile
from fedmedlora_site.client import Batch
from fedmedlora_site.errors import ForkError, RejectedError, TransportError
from fedmedlora_testkit.audit_log import witness_of

if TYPE_CHECKING:
    from fedmedlora_testkit.stage import Stage


class StageWire:
    """The agent's connection: straight into the stage's log and blobs."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.down = False
        self.ahead = False
        self.verified = False
        self.lost_chunks = 0
        self.witnesses = stage.names  # who has cosigned the heads that this site is shown
        self.held_back: set[str] = set()  # types of events that the network keeps
        self.on_their_way: set[str] = set()  # those that it keeps at this moment
        self.on_withheld: Callable[[], None] = lambda: None
        self.receipts: Callable[[bytes], bytes] = lambda receipt: receipt

    async def submit(self, note: bytes) -> tuple[bytes, int]:
        """Let the law judge the event and log it, as the coordinator does."""
        event = parse_event(note).event
        while event.type in self.held_back:
            self.on_their_way.add(event.type)
            self._stage.changed.set()
            await asyncio.sleep(0.005)
        self._up()
        log = self._stage.log
        for item in event.objects:
            if item.digest not in self._stage.blobs:
                raise RejectedError("blob_missing")
        found = [entry for entry in log.entries if entry.note == note]
        entry = found[0] if found else log.add(note)
        if not found:
            self._stage.heard.append(event)
            if event.objects:
                item = event.objects[0]
                sid = str(event.sid)
                log.payloads[self._stage.site, item.role, sid] = self._stage.blobs[item.digest]
            self._stage.changed.set()
        return self.receipts(log.entries[entry.index + 1].note), entry.index

    async def watch(self, from_index: int) -> AsyncIterator[Batch]:
        """Stream what the log has, then whatever it gets."""
        log, sent = self._stage.log, from_index
        shown = () if "C3" in log.terms.demands and log.entries else self.witnesses
        while True:
            self._up()
            if self.ahead:
                raise RejectedError("ahead_of_log")
            if (len(log.entries) > sent or self.witnesses != shown) and log.state.pending is None:
                shown = self.witnesses
                notes = tuple(entry.note for entry in self._cut(log.entries[sent:]))
                size = sent + len(notes)
                yield Batch(sent, notes, log.head_note(size), self._cosigned(size))
                sent = size
            await asyncio.sleep(0.002)

    def _cut(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """In a witnessed study a batch ends with a head that witnesses sign, as the coordinator's do."""
        if "C3" not in self._stage.log.terms.demands:
            return entries
        ends = (place for place, entry in enumerate(entries, 1) if is_cosigned_after(entry.event.type))
        return entries[: next(ends, len(entries))]

    def _cosigned(self, size: int) -> bytes:
        """The newest head that the witnesses stand behind."""
        log = self._stage.log
        ends = [entry.index + 1 for entry in log.entries[:size] if is_cosigned_after(entry.event.type)]
        if not ends or not self.witnesses:
            return b""
        note = log.head_note(ends[-1])
        newest = max(datetime.fromisoformat(entry.event.time) for entry in log.entries[: ends[-1]])
        time = int(newest.timestamp())  # seen no earlier than what it covers (E8)
        lines = [cosign(checkpoint_of(note), witness_of(site), time=time) for site in self.witnesses]
        return with_cosignatures(note, lines)

    async def cosign(self, checkpoint: bytes, cosignature: bytes) -> None:
        """Take a cosignature."""
        self._up()
        self._stage.cosigned[checkpoint] = cosignature

    async def put_blob(self, upload: UploadFile) -> None:
        """Take a payload."""
        self._up()
        data = b"".join(upload.chunk(index)[0] for index in range(upload.chunk_count))
        self._stage.blobs[upload.digest] = data

    async def get_blob(self, digest: str, *, total_bytes: int, resumed: bool = False) -> bytes:
        """Give a payload; the real client has checked it against its digest."""
        self._up()
        return self._stage.blobs[digest]

    async def get_chunk(self, digest: str, index: int, *, total_bytes: int) -> bytes:
        """Give a chunk of a payload, unless it is withheld; `verified` checks it as the real client does."""
        if digest in self._stage.withheld:
            self.on_withheld()
            raise RejectedError("unknown_blob")
        data = await self.get_blob(digest, total_bytes=total_bytes)
        if self.lost_chunks:
            self.lost_chunks -= 1
            raise TransportError("the stage's network lost a chunk")
        if self.verified and blob_digest(data) != digest:
            raise ForkError("wrong_digest", "a chunk is not what the log names")
        return data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]

    async def close(self) -> None:
        """Nothing to close."""

    def _up(self) -> None:
        if self.down:
            raise TransportError("the stage's network is down")

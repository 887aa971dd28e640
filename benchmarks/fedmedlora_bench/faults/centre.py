"""The coordinator of a simulated federation: every part of `coordinator serve` but listeners and signals."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from contextlib import suppress

from fedmedlora_audit.events import Entry
from fedmedlora_bench.faults.disk import Disk
from fedmedlora_bench.faults.hosts import Host
from fedmedlora_bench.federation_folders import Folders
from fedmedlora_coordinator import setup
from fedmedlora_coordinator.admission import Admission
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.callers import Callers
from fedmedlora_coordinator.certificates import Certificates
from fedmedlora_coordinator.conductor import Conductor
from fedmedlora_coordinator.database import Database
from fedmedlora_coordinator.door import Door
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.ledger import Keys, Ledger
from fedmedlora_coordinator.model import GlobalModel
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_coordinator.peer_limits import PeerLimits, federation_door
from fedmedlora_coordinator.placement import enrolment_database, log_database
from fedmedlora_coordinator.presence import Presence
from fedmedlora_coordinator.progress import Progress
from fedmedlora_coordinator.service import FederationService
from fedmedlora_coordinator.settings import CoordinatorSettings
from fedmedlora_coordinator.store import LogStore
from fedmedlora_coordinator.study import adopt_study
from fedmedlora_coordinator.witnesses import Witnesses
from fedmedlora_core.errors import ConfigError

__all__ = ["Centre", "SimulatedStore"]

RESTART_SECONDS = 5.0
"""What the service manager waits before it starts a process again that ended by itself."""
_MOST_PAGES = 1_073_741_823


class SimulatedStore(LogStore):
    """The real store on SQLite, of which an append is one access to the disk before and one after.

    A full disk is SQLite's own: no page may be added. SQLite does not wait for the real disk here; that its
    commits are durable is taken as given.
    """

    def __init__(self, database: Database, folder: Folder, host: Host, disk: Disk) -> None:
        """Open the store."""
        super().__init__(database, folder.head)
        self._host, self._disk = host, disk
        self._say("synchronous = OFF")

    def append(self, start: int, entries: Sequence[tuple[bytes, bytes]], *, head: bytes, size: int) -> None:
        """Append, unless the disk is full or the process is killed right before or after."""
        self._disk.access(self._host)
        self._need_room()
        super().append(start, entries, head=head, size=size)
        self._disk.access(self._host)

    def add_cosignature(self, size: int, site: str, line: bytes) -> None:
        """Keep a cosignature, as `append` appends."""
        self._disk.access(self._host)
        self._need_room()
        super().add_cosignature(size, site, line)
        self._disk.access(self._host)

    def _need_room(self) -> None:
        is_full = self._disk.now() < self._host.full_until
        self._say(f"max_page_count = {1 if is_full else _MOST_PAGES}")

    def _say(self, pragma: str) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")  # no change of these settings within a transaction
            connection.exec_driver_sql(f"PRAGMA {pragma}")
            connection.exec_driver_sql("BEGIN")


class Centre:
    """The coordinator's machine and whatever process runs on it.

    Args:
        folders: Where everything lies.
        host: The machine.
        disk: Its disk.
        clock: The date.
        observe: Told of every entry that becomes durable, in whichever process.
    """

    store_type = SimulatedStore

    def __init__(
        self,
        folders: Folders,
        host: Host,
        disk: Disk,
        clock: Callable[[], dt.datetime],
        observe: Callable[[Entry], None],
    ) -> None:
        """Nothing runs yet."""
        self.host = host
        self.service: FederationService | None = None
        self.ledger: Ledger | None = None
        self.failures: list[str] = []  # what processes ended with that were not killed
        self._folder = Folder(folders.coordinator)
        self._disk = disk
        self._observe = observe
        self._store: LogStore | None = None
        self._door: Door | None = None
        self._admission: Admission | None = None
        self._clock = clock

    async def keep(self) -> None:
        """Serve for ever, starting again whenever the process is gone."""
        while True:
            self.host.begin()
            served = self.host.spawn(self._serve())
            await asyncio.wait({served})
            pause, self.service = self.host.down_for, None
            if self.host.is_up:  # it ended by itself
                self._note(served)
                self.host.die(RESTART_SECONDS, "its own error")
                pause = RESTART_SECONDS
            if self._store is not None:
                self._store.close()  # the system closes what a dead process had open
                self._store = None
            await asyncio.sleep(pause)

    def close(self) -> None:
        """Let go of store and door at the end of the simulation."""
        if self._door is not None:
            self._door.close()
        if self._store is not None:
            self._store.close()

    def _note(self, served: asyncio.Task[None]) -> None:
        error = None if served.cancelled() else served.exception()
        self.failures.append("ended" if error is None else f"{type(error).__name__}: {error}")

    async def _serve(self) -> None:
        """Do what `runtime.Federation` does in one process."""
        fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def fail(error: Exception) -> None:
            if not fatal.done():
                fatal.set_exception(error)

        conductor = self._assemble(fail)
        conduct = asyncio.create_task(conductor.run())
        try:
            await asyncio.wait({conduct, fatal}, return_when=asyncio.FIRST_COMPLETED)
            if fatal.done():
                fatal.result()
            conduct.result()
            await fatal
        finally:
            conduct.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(conduct, return_exceptions=True)

    def _assemble(self, fail: Callable[[Exception], None]) -> Conductor:
        folder, monotonic = self._folder, asyncio.get_running_loop().time
        settings = CoordinatorSettings.load(folder.config)
        keys = Keys(setup.load_event_signer(folder), setup.load_log_signer(folder))
        running = adopt_study(folder, None, keys)
        if running is None:
            raise ConfigError(f"{folder.root}: has no study")
        store = self._store = self.store_type(log_database(folder, settings), folder, self.host, self._disk)
        blobs = BlobStore(
            folder.blobs,
            storage_key=setup.load_storage_key(folder),
            max_blob_bytes=settings.limits.max_blob_bytes,
            max_open_uploads=settings.limits.max_open_uploads_per_site,
        )
        model = GlobalModel.of_package(running.study, running.package)
        payloads = Payloads(running.terms, blobs, model.sizes())

        def observe(entry: Entry) -> None:
            payloads.learn([entry])
            self._observe(entry)

        ledger = self.ledger = Ledger(
            terms=running.terms, store=store, keys=keys, clock=self._clock, observer=observe
        )
        payloads.learn(ledger.entries)
        presence, witnesses = Presence(started=monotonic()), Witnesses(ledger, store)
        moved = Progress(payloads.most_moved())
        if self._door is None:  # stands in front of no listener here
            self._door = federation_door(settings.peers)
        conductor = Conductor(
            ledger=ledger,
            blobs=blobs,
            payloads=payloads,
            model=model,
            presence=presence,
            witnesses=witnesses,
            progress=moved,
            settings=settings,
            folder=folder,
            monotonic=monotonic,
        )
        if self._admission is None:  # nobody is revoked here
            register = Certificates(enrolment_database(folder, settings))
            self._admission = Admission(register, self._clock)
        self.service = FederationService(
            callers=Callers(self._admission, PeerLimits(self._door, settings.peers, monotonic)),
            ledger=ledger,
            blobs=blobs,
            payloads=payloads,
            presence=presence,
            witnesses=witnesses,
            progress=moved,
            monotonic=monotonic,
            wake=conductor.wake,
            fatal=fail,
        )
        return conductor

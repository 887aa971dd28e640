"""`coordinator serve`: both listeners, the conductor, and an orderly end (OPERATIONS "Serving")."""

import asyncio
import datetime as dt
import json
import logging
import signal
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

from fedmedlora_audit.events import Entry
from fedmedlora_coordinator.admission import Admission
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.callers import Callers
from fedmedlora_coordinator.certificate_watch import CertificateWatch
from fedmedlora_coordinator.certificates import Certificates
from fedmedlora_coordinator.conductor import Conductor
from fedmedlora_coordinator.enrolment import EnrolmentService
from fedmedlora_coordinator.errors import StoreHeldError, StoreUnreachableError
from fedmedlora_coordinator.faults import DieAt
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.ledger import Keys, Ledger
from fedmedlora_coordinator.metrics import REGISTRY
from fedmedlora_coordinator.model import GlobalModel
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_coordinator.peer_limits import PeerLimits, enrolment_door, federation_door
from fedmedlora_coordinator.placement import await_database, enrolment_database, log_database
from fedmedlora_coordinator.postgres_database import GONE_SECONDS
from fedmedlora_coordinator.presence import Presence
from fedmedlora_coordinator.probes import HealthProbes
from fedmedlora_coordinator.progress import Progress
from fedmedlora_coordinator.pulse import Pulse, Watched, tell_entry
from fedmedlora_coordinator.register import Register
from fedmedlora_coordinator.renewal import CertificateService
from fedmedlora_coordinator.server_certificate import renew_server_if_due
from fedmedlora_coordinator.service import FederationService
from fedmedlora_coordinator.settings import CoordinatorSettings
from fedmedlora_coordinator.setup import load_event_signer, load_log_signer, load_storage_key
from fedmedlora_coordinator.stamping import StampKeeper, make_stamper
from fedmedlora_coordinator.store import LogStore
from fedmedlora_coordinator.study import RunningStudy, adopt_study
from fedmedlora_coordinator.transport import (
    enrolment_credentials,
    enrolment_server,
    federation_server,
    listen,
    mutual_credentials,
)
from fedmedlora_coordinator.witnesses import Witnesses
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.operating.local_page import LocalPage
from fedmedlora_protos.operating.logbook import place_of, tell
from fedmedlora_protos.operating.vitals import Health, WriteProbe
from fedmedlora_protos.v1 import federation_pb2_grpc as pb_grpc

_LOG = logging.getLogger(__name__)
STOP_GRACE_SECONDS = 2.0  # running calls may finish; streams end


@dataclass(frozen=True)
class Options:
    """How to serve."""

    until_closed: bool = False
    progress: bool = False
    die_at: DieAt | None = None


def serve(
    root: Path,
    *,
    study: Path | None = None,
    until_closed: bool = False,
    progress: bool = False,
    die_at: str | None = None,
) -> None:
    """Serve until a signal, a fatal error, or - with `until_closed` - the end of the study.

    Args:
        root: The coordinator's folder.
        study: Study package to run; without it the one taken in before, or enrolment alone.
        until_closed: Return once the run is closed and every site that is there has seen it.
        progress: Print one JSON line per event of the log on standard output.
        die_at: Fault injection, `STEP:ROUND:before|after`.

    Raises:
        ConfigError: Settings, study or addresses are not usable (the operator's).
        StoreError: The durable state is damaged, or cannot be written, or its database stayed away for
            longer than `store.patience_seconds`; nothing was written after that was noticed.
    """
    folder = Folder(root)
    folder.require()
    options = Options(until_closed, progress, None if die_at is None else DieAt.parse(die_at))
    listen = CoordinatorSettings.load(folder.config).metrics.listen
    pulse = Pulse(folder, Health())
    with folder.locked(), LocalPage(listen, REGISTRY, pulse.health, WriteProbe(root)):
        lost: float | None = None
        while True:
            try:
                asyncio.run(_serve(folder, study, options, pulse))
            except StoreUnreachableError as error:
                lost = time.monotonic()
                pulse.pause("store")
                _wait_for_store(folder, error)
            except StoreHeldError:
                # After a cut of the network the server lets go of this process's last session late.
                if lost is None or time.monotonic() - lost > 2 * GONE_SECONDS:
                    raise
            else:
                return


def _wait_for_store(folder: Folder, error: StoreUnreachableError) -> None:
    """Wait for a database that is away; what this process knew is read anew from it then."""
    patience = CoordinatorSettings.load(folder.config).store.patience_seconds
    tell(_LOG, "store_lost", detail=str(error), seconds=round(patience))
    await_database(folder, patience)
    tell(_LOG, "store_back")


async def _serve(folder: Folder, package: Path | None, options: Options, pulse: Pulse) -> None:
    settings = CoordinatorSettings.load(folder.config)
    keys = Keys(load_event_signer(folder), load_log_signer(folder))
    running = adopt_study(folder, package, keys)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    renew_server_if_due(folder, _now())
    async with AsyncExitStack() as stack:
        enrolment = await _start_enrolment(folder, settings, stack)
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
        if running is not None:
            federation = Federation(folder, settings, keys, running, options)
            enrolment.event_vkey = federation.event_vkey
            await federation.start(stack)
            pulse.watch(federation.watched())
            tasks.append(asyncio.create_task(federation.run()))
        tell(_LOG, "serving", folder=str(folder.root))
        seeing = asyncio.create_task(pulse.run())
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in (*pending, seeing):
            task.cancel()
        await asyncio.gather(*pending, seeing, return_exceptions=True)
        for task in done:
            task.result()


async def _start_enrolment(
    folder: Folder, settings: CoordinatorSettings, stack: AsyncExitStack
) -> EnrolmentService:
    register = Register(enrolment_database(folder, settings))
    stack.callback(register.close)
    door = enrolment_door(settings.peers)
    limits = PeerLimits(door, settings.peers)
    server = enrolment_server(settings.peers, limits)
    service = EnrolmentService(register, Authority.load(folder), _now, limits)
    pb_grpc.add_EnrolmentServicer_to_server(service, server)
    stack.callback(door.close)
    stack.push_async_callback(server.stop, STOP_GRACE_SECONDS)
    await listen(server, door, settings.coordinator.enrolment_listen, enrolment_credentials(folder))
    return service


class Federation:
    """Everything that runs one study."""

    def __init__(
        self,
        folder: Folder,
        settings: CoordinatorSettings,
        keys: Keys,
        running: RunningStudy,
        options: Options,
    ) -> None:
        """Open store and blobs and replay the log."""
        self._folder = folder
        self._settings = settings
        self._until_closed = options.until_closed
        self.port = 0  # of the federation listener, once it is open
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._store = LogStore(log_database(folder, settings), folder.head)
        with ExitStack() as undone:
            undone.callback(self._store.close)  # a log that cannot be used is let go of
            self._certificates, self._admission = _admission(folder, settings, undone)
            self._blobs = _blob_store(folder, settings)
            model = GlobalModel.of_package(running.study, running.package)
            self._payloads = Payloads(running.terms, self._blobs, model.sizes())
            self._progress = options.progress
            self._ledger = Ledger(
                terms=running.terms,
                store=self._store,
                keys=keys,
                clock=_now,
                observer=self._observe,
                die_at=options.die_at,
            )
            if self._ledger.deleted:
                raise ConfigError(f"{folder.root}: entries of this log were deleted; it is kept, not served")
            self._payloads.learn(self._ledger.entries)
            self._presence = Presence(started=time.monotonic())
            self._moved = Progress(self._payloads.most_moved())
            self._door = federation_door(settings.peers)
            self._callers = Callers(self._admission, PeerLimits(self._door, settings.peers))
            self._witnesses = Witnesses(self._ledger, self._store)
            self._conductor = self._make_conductor(model)
            self._stamps = self._stamp_keeper()
            self._probes = HealthProbes()
            self._service = self._make_service()
            undone.pop_all()

    def _make_conductor(self, model: GlobalModel) -> Conductor:
        return Conductor(
            ledger=self._ledger,
            blobs=self._blobs,
            payloads=self._payloads,
            model=model,
            presence=self._presence,
            witnesses=self._witnesses,
            progress=self._moved,
            settings=self._settings,
            folder=self._folder,
            monotonic=time.monotonic,
            on_clipped=self._observe_clipped,
        )

    def _make_service(self) -> FederationService:
        return FederationService(
            callers=self._callers,
            ledger=self._ledger,
            blobs=self._blobs,
            payloads=self._payloads,
            presence=self._presence,
            witnesses=self._witnesses,
            progress=self._moved,
            monotonic=time.monotonic,
            wake=self._conductor.wake,
            fatal=self._fail,
        )

    def _stamp_keeper(self) -> StampKeeper | None:
        settings = self._settings.stamps
        stamper = make_stamper(self._folder, settings)
        return None if stamper is None else StampKeeper(self._ledger, self._folder, stamper, settings)

    async def start(self, stack: AsyncExitStack) -> None:
        """Open the federation listener."""
        stack.callback(self._store.close)
        stack.callback(self._certificates.close)
        server = federation_server(self._settings.peers, self._callers.limits, self._callers.admit)
        self._service.add_to(server)
        self._probes.serve(server, self._callers)
        service = CertificateService(
            callers=self._callers,
            certificates=self._certificates,
            authority=Authority.load(self._folder),
            event_vkey=lambda site: self.event_vkey(site) or self._certificates.event_vkey(site),
            clock=_now,
        )
        pb_grpc.add_CertificatesServicer_to_server(service, server)
        stack.callback(self._door.close)
        stack.push_async_callback(server.stop, STOP_GRACE_SECONDS)
        credentials = mutual_credentials(self._folder)
        self.port = await listen(server, self._door, self._settings.coordinator.listen, credentials)

    def watched(self) -> Watched:
        """Return the parts that the pulse looks at."""
        return Watched(self._ledger, self._store, self._presence, self._witnesses, self._probes)

    def event_vkey(self, site: str) -> str | None:
        """Return the event key of a member as the log knows it now; None for who is no member."""
        key = self._ledger.state.book.events.get(site)
        return None if key is None else key.vkey

    async def run(self) -> None:
        """Conduct the study; returns when it is closed and delivered, if that was asked for."""
        conduct = asyncio.create_task(self._conductor.run())
        stamping = asyncio.create_task(self._stamp())
        watching = asyncio.create_task(self._watch_certificates())
        try:
            await asyncio.wait({conduct, self._fatal}, return_when=asyncio.FIRST_COMPLETED)
            if self._fatal.done():
                self._fatal.result()
            conduct.result()
            if not self._until_closed:
                await self._fatal
            await self.delivered()
        finally:
            conduct.cancel()
            stamping.cancel()
            watching.cancel()
        if self._stamps is not None:
            await self._stamps.catch_up()  # what is still lacking then, `coordinator stamp` asks for

    async def _watch_certificates(self) -> None:
        """Follow the register; when nobody can tell any more who is revoked, nobody is served."""
        watch = CertificateWatch(self._folder, self._admission, self._ledger.terms.members, _now)
        try:
            await asyncio.gather(self._admission.run(), watch.run())
        except Exception as error:  # noqa: BLE001 - whatever it is, admission is blind without it
            self._fail(error)

    async def _stamp(self) -> None:
        """Have closed rounds stamped; nothing of the study waits for it, and nothing ends with it."""
        if self._stamps is None:
            return
        try:
            await self._stamps.run()
        except Exception as error:  # noqa: BLE001 - a bug here must not end a study
            tell(_LOG, "stamps_ended", error=type(error).__name__, place=place_of(error))

    async def delivered(self) -> None:
        """Wait until every member has been sent the end of the run, or has been away for the grace time.

        A site that has read the end leaves; whether it is still there says nothing then, nor that another's
        answer came into the log after the end. It leaves once its cosignature of the last head is here: while
        some are there, a quorum is waited for.
        """
        grace, end = self._settings.timing.grace_seconds, self._ledger.end_size()
        while True:
            now = time.monotonic()
            missing = [s for s in self._ledger.state.remaining if not self._service.has_been_sent(s, end)]
            absent = [self._presence.away_since(site) for site in missing]
            late = [since + grace - now for since in absent if since is not None and since + grace > now]
            behind = self._service.behind()
            if not late and not behind and not self._witnesses_owe():
                return
            await asyncio.sleep(min([*late, 0.1]))

    def _witnesses_owe(self) -> bool:
        """Tell whether the last head lacks a quorum that those who are there may still give."""
        lacking = self._witnesses.demanded and not self._witnesses.has_quorum(self._ledger.size)
        return lacking and bool(self._presence.connected())

    def _observe(self, entry: Entry) -> None:
        self._payloads.learn([entry])
        tell_entry(entry)
        event = entry.event
        if self._progress and event.type != "receipt":
            line = {"event": event.type, "actor": event.actor.id, "round": event.round, "index": entry.index}
            sys.stdout.write(json.dumps({k: v for k, v in line.items() if v is not None}) + "\n")
            sys.stdout.flush()

    def _observe_clipped(self, number: int, permille: float, warn: bool) -> None:
        if self._progress:
            line = {"event": "clipped", "round": number, "permille": round(permille, 1), "warning": warn}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    def _fail(self, error: Exception) -> None:
        if not self._fatal.done():
            self._fatal.set_exception(error)


def _admission(
    folder: Folder, settings: CoordinatorSettings, undone: ExitStack
) -> tuple[Certificates, Admission]:
    certificates = Certificates(enrolment_database(folder, settings))
    undone.callback(certificates.close)
    return certificates, Admission(certificates, _now)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _blob_store(folder: Folder, settings: CoordinatorSettings) -> BlobStore:
    return BlobStore(
        folder.blobs,
        storage_key=load_storage_key(folder),
        max_blob_bytes=settings.limits.max_blob_bytes,
        max_open_uploads=settings.limits.max_open_uploads_per_site,
    )

"""`coordinator status` and `coordinator export`: what the folder says, also while it is being served."""

from functools import partial
from pathlib import Path

from fedmedlora_audit.bundle import DeletedEntry, write_bundle
from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.cosignature import with_cosignatures
from fedmedlora_audit.errors import AuditError, BundleError
from fedmedlora_audit.events import Entry, entry_of, parse_event
from fedmedlora_audit.law import State, apply, waiting
from fedmedlora_audit.law.remains import pass_over, recall
from fedmedlora_audit.stamps import stamp_path
from fedmedlora_audit.witnessing import HEADS
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.database import Database
from fedmedlora_coordinator.errors import StoreError, TsaError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.ledger import Keys, need_lawful_gaps
from fedmedlora_coordinator.placement import enrolment_database, log_database
from fedmedlora_coordinator.register import Register
from fedmedlora_coordinator.settings import CoordinatorSettings
from fedmedlora_coordinator.setup import load_event_signer, load_log_signer
from fedmedlora_coordinator.stamping import kept_stamps, lacking_stamps, make_stamper, wanted_stamps
from fedmedlora_coordinator.store import read_cosignatures, read_entries
from fedmedlora_coordinator.study import RunningStudy, adopt_study
from fedmedlora_core.errors import CodecError, ConfigError


def status(root: Path) -> dict[str, object]:
    """Say where the study stands: flat, for people and for scripts.

    Args:
        root: The coordinator's folder.

    Raises:
        ConfigError: It is not a coordinator's folder.
        StoreError: The store cannot be read or breaks the law.
    """
    folder = Folder(root)
    folder.require()
    found: dict[str, object] = {"serving": folder.is_served(), "enrolled": _enrolled(folder)}
    running = _running(folder)
    if running is None:
        return {**found, "study": None}
    state, rows = read_log(folder, running)
    entries = [row for row in rows if isinstance(row, Entry)]
    if len(entries) != len(rows):
        return {**found, **_kept(running, state), "deleted_entries": len(rows) - len(entries)}
    now = waiting(state)
    outcomes = [current.outcome for current in state.rounds.values()]
    return {
        **found,
        "round": len(state.rounds),
        "rounds": running.terms.rounds,
        "closed": outcomes.count("closed"),
        "aborted": outcomes.count("aborted"),
        "rolled_back": outcomes.count("rolled_back"),
        "step": now.step,
        "threshold": running.terms.threshold,
        "members": list(running.terms.members),
        "arrived": list(now.arrived),
        "waiting_for": [site for site in now.expected if site not in now.arrived],
        "base": state.base,
        **_kept(running, state),
        "left": sorted(state.book.left),
        "keys_changed": sorted({site for site, _ in state.rotated}),
        **_stamped(folder, entries),
        **_clipped(folder, running, state),
    }


def _kept(running: RunningStudy, state: State) -> dict[str, object]:
    """What is known of any log, deleted entries or not: what it is, where it ends, how long it is kept."""
    retention = state.retention
    closed = retention.closed_at is not None
    return {
        "study": running.terms.study_id,
        "charter": running.terms.digest,
        "entries": state.size,
        "released": state.released,
        "run_closed": state.run_closed,
        "kept_until": retention.expires_on(running.terms.retention_years) if closed else None,
        "holds": sorted(retention.holds),
    }


def _stamped(folder: Folder, entries: list[Entry]) -> dict[str, object]:
    """Which closed rounds have a time stamp, and which have none."""
    wanted, lacking = wanted_stamps(entries), lacking_stamps(folder, entries)
    url = CoordinatorSettings.load(folder.config).stamps.tsa_url
    said = f"{len(wanted) - len(lacking)} of {len(wanted)} closed rounds are stamped"
    return {
        "time_stamps": said if url else f"skipped: no authority is named (stamps.tsa_url); {said}",
        "unstamped_rounds": list(lacking.values()),
    }


def stamp_lacking(root: Path) -> dict[str, object]:
    """Ask the authority for every stamp that is lacking, up to the first that it does not give.

    Args:
        root: The coordinator's folder; it may be being served.

    Returns:
        What `status` says of time stamps afterwards, and why the authority gave no further one, if so.

    Raises:
        ConfigError: There is no study, or no authority is named (the operator's).
        StoreError: The store cannot be read or breaks the law.
    """
    folder = Folder(root)
    folder.require()
    running = require_study(folder)
    state, entries = replayed(folder, running)
    stamper = make_stamper(folder, CoordinatorSettings.load(folder.config).stamps)
    if stamper is None:
        raise ConfigError(f"{folder.config}: no time-stamping authority is named (stamps.tsa_url)")
    problem: str | None = None
    try:
        for size in sorted(lacking_stamps(folder, entries)):
            stamper.stamp(Checkpoint(running.terms.origin, size, state.tree.root(size)))
    except TsaError as error:
        problem = str(error)
    return {**_stamped(folder, entries), "problem": problem}


def _clipped(folder: Folder, running: RunningStudy, state: State) -> dict[str, object]:
    """Mean share of clipped values in each closed round, from the published sums (PROTOCOL §4.5)."""
    study, blobs = running.study, BlobStore(folder.blobs)
    found = {}
    for closed in state.closed_rounds:
        try:
            fetch = partial(blobs.checked, closed.ring)
            total = study.packing(closed.round).tail(fetch, study.extras)[0]
        except (StoreError, CodecError):  # a sum that lies elsewhere, or of another purpose
            continue
        found[str(closed.round)] = round(total / len(state.sids[closed.sid].u3), 1)
    limit = study.secure_aggregation.clipped_warn_permille
    return {
        "clipped_permille": found,
        "clipped_too_often": [int(number) for number, share in found.items() if share > limit],
    }


def export_bundle(root: Path, out: Path) -> int:
    """Write the bundle that a reviewer judges offline; returns the number of entries in it.

    Args:
        root: The coordinator's folder; it may be being served.
        out: Folder to make; must not exist or be empty. Or ``FILE.tar.gz``, for one packed file.

    Raises:
        ConfigError: There is nothing to export yet, or `out` is in use (the operator's).
        StoreError: The store cannot be read or breaks the law.
    """
    folder = Folder(root)
    folder.require()
    running = require_study(folder)
    state, entries = read_log(folder, running)
    if not entries:
        raise ConfigError(f"{root}: the log is empty; there is nothing to export yet")
    heads = _cosigned_heads(folder, running, state)
    stamps = {stamp_path(size): stamp for size, stamp in kept_stamps(folder, state.size).items()}
    checkpoint = heads.pop(state.size, None) or _head(folder, running, state, state.size)
    try:
        write_bundle(
            out,
            charter=running.study.canonical_json(),
            entries=entries,
            checkpoint=checkpoint,
            signer=load_event_signer(folder),
            extra={f"{HEADS}{size}": note for size, note in heads.items()} | stamps,
        )
    except (BundleError, OSError) as error:
        raise ConfigError(f"{out}: {error}") from None
    return len(entries)


def _head(folder: Folder, running: RunningStudy, state: State, size: int) -> bytes:
    head = Checkpoint(running.terms.origin, size, state.tree.root(size))
    return sign_checkpoint(head, load_log_signer(folder))


def _cosigned_heads(folder: Folder, running: RunningStudy, state: State) -> dict[int, bytes]:
    """Return the heads that witnesses have signed, by size: those with a quorum, and the last one."""
    lines: dict[int, list[bytes]] = {}
    for size, _, line in read_cosignatures(log_database(folder)):
        lines.setdefault(size, []).append(line)
    return {
        size: with_cosignatures(_head(folder, running, state, size), given)
        for size, given in lines.items()
        if size <= state.size and (size == state.size or len(given) >= running.terms.threshold)
    }


def _enrolled(folder: Folder) -> list[str]:
    database = enrolment_database(folder)
    if not database.exists():
        return []
    register = Register(database)
    try:
        return sorted({site.site for site in register.enrolled()})
    finally:
        register.close()


def _running(folder: Folder) -> RunningStudy | None:
    return adopt_study(folder, None, Keys(load_event_signer(folder), load_log_signer(folder)))


def replayed(folder: Folder, running: RunningStudy) -> tuple[State, list[Entry]]:
    """Fold the stored entries of a whole log; see `read_log`.

    Raises:
        ConfigError: Entries were deleted, so there is no state of the study any more (the operator's).
        StoreError: The store cannot be read or breaks the law.
    """
    state, rows = read_log(folder, running)
    entries = [row for row in rows if isinstance(row, Entry)]
    if len(entries) != len(rows):
        raise ConfigError(
            f"{folder.root}: entries of this log were deleted; the study cannot be read any more"
        )
    return state, entries


def read_log(
    folder: Folder, running: RunningStudy, database: Database | None = None
) -> tuple[State, list[Entry | DeletedEntry]]:
    """Fold the stored entries, or what is left; signatures are checked again: an export vouches for them.

    Args:
        folder: The coordinator's folder.
        running: Its study.
        database: Where the log lies; None for where the folder's settings say.

    Raises:
        StoreError: The store cannot be read or breaks the law.
    """
    state, rows = State.begin(running.terms), read_entries(database or log_database(folder))
    entries: list[Entry | DeletedEntry] = []
    take = _recalled if any(not row.note for row in rows) else apply
    for stored in rows:
        if not stored.note:
            pass_over(state, stored.leaf)
            entries.append(DeletedEntry(stored.leaf))
            continue
        try:
            unverified = parse_event(stored.note)
            event = unverified.verify(state.key_of(unverified.event.actor))
            entry = entry_of(stored.index, stored.note, event)
            take(state, entry)
        except AuditError as error:
            raise StoreError(f"entry {stored.index} of the store: {error}") from None
        entries.append(entry)
    need_lawful_gaps(state, (row.index for row in rows if not row.note))
    return state, entries


def _recalled(state: State, entry: Entry) -> None:
    for error in recall(state, entry):
        raise error


def require_study(folder: Folder) -> RunningStudy:
    """Return the folder's study.

    Raises:
        ConfigError: There is none yet (the operator's).
    """
    running = _running(folder)
    if running is None:
        raise ConfigError(f"{folder.root}: there is no study yet; start one with `serve --study`")
    return running

"""External time stamps on heads that close rounds: check C7 (RFC 3161, AUDIT "Time stamps").

A time-stamping authority signs the digest of a head's text and its own time. So the history under that head
existed then, whatever the coordinator and all sites agree on later.

Rules:
    * A stamp is over the three lines of one head, which the verifier computes from the entries itself.
    * Trusted are the certificates of the trust file alone. Certificates in a stamp lead there or count for
      nothing; certificates from the bundle are never offered to the library, which takes what it is given as
      an anchor.
    * What counts is whether the authority's certificate was valid when the stamp was made. That it expired
      later changes nothing.

What this does not do: ask for stamps, or reach the network. It needs the ``stamps`` extra; without it C7 is
not judged.
"""

import base64
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509

from fedmedlora_audit.checkpoint import Checkpoint
from fedmedlora_audit.errors import StampError
from fedmedlora_audit.events import Event
from fedmedlora_audit.finding import Finding
from fedmedlora_audit.merkle import Tree

CHECK: Final = "C7"
STAMPS: Final = "stamps/"
"""Folder of a bundle with the time stamps, each named by the size of its head."""
MAX_STAMP_BYTES: Final = 64 << 10
SKEW_SECONDS: Final = 300
"""How far the clock of an event's author may be from the authority's."""
_NAME: Final = re.compile(r"stamps/([1-9][0-9]{0,15})\.tsr")

NO_LIBRARY: Final = "Judging time stamps needs the 'stamps' extra: pip install 'fedmedlora[stamps]'."
NO_ROOTS: Final = "The trust file names no time-stamping authority."
NO_STAMPS: Final = "The bundle holds no time stamp: the coordinator names no authority, or none answered."


class StampsUnavailableError(Exception):
    """The library that reads time stamps is not installed (the operator's)."""

    def __init__(self) -> None:
        """Say which extra is missing."""
        super().__init__(NO_LIBRARY)


def stamp_path(size: int) -> str:
    """Name the file of the stamp over the head of a size, inside a bundle."""
    return f"{STAMPS}{size}.tsr"


def closing_heads(events: Iterable[tuple[int, Event]]) -> dict[int, int]:
    """Return which heads are stamped: the size that ends with each ``round.closed``, and its round."""
    return {index + 1: event.round or 0 for index, event in events if event.type == "round.closed"}


def read_roots(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a PEM file.

    Raises:
        StampError: There is none, or one is malformed (the operator's file).
    """
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, x509.InvalidVersion):
        raise StampError("the authority's certificates are not PEM") from None


def load_root(encoded: str) -> x509.Certificate:
    """Read a certificate of the trust file: base64 of its DER form.

    Raises:
        StampError: It is not one.
    """
    try:
        return x509.load_der_x509_certificate(base64.b64decode(encoded, validate=True))
    except (ValueError, x509.InvalidVersion):
        raise StampError("a certificate of the authority is malformed") from None


def request_of(head: Checkpoint) -> tuple[bytes, int]:
    """Make a request for a stamp over a head: its DER bytes, and the nonce that the answer must repeat.

    Raises:
        StampsUnavailableError: The library is not installed.
    """
    try:
        import rfc3161_client as rfc3161
    except ModuleNotFoundError:
        raise StampsUnavailableError from None
    builder = rfc3161.TimestampRequestBuilder().data(head.body.encode())
    request = builder.hash_algorithm(rfc3161.HashAlgorithm.SHA256).nonce(nonce=True).build()
    if request.nonce is None:
        raise StampError("the request has no nonce")
    return request.as_bytes(), request.nonce


def open_stamp(
    stamp: bytes, head: Checkpoint, roots: Sequence[x509.Certificate], *, nonce: int | None = None
) -> datetime:
    """Return the time at which an authority stamped a head.

    Args:
        stamp: DER bytes of the authority's response; at most 64 KiB.
        head: The head that it must be over.
        roots: Trusted certificates; those in the stamp must lead to one of them. Not empty.
        nonce: When given, the nonce of the request; only who asked for the stamp knows it.

    Raises:
        StampError: It is malformed, over something else, not by a trusted authority, made outside the
            validity of its certificate, or an answer to another request.
        StampsUnavailableError: The library is not installed.
    """
    try:
        import rfc3161_client as rfc3161
    except ModuleNotFoundError:
        raise StampsUnavailableError from None
    if len(stamp) > MAX_STAMP_BYTES:
        raise StampError(f"a time stamp has at most {MAX_STAMP_BYTES} bytes, got {len(stamp)}")
    builder = rfc3161.VerifierBuilder(roots=list(roots), nonce=nonce)
    try:
        response = rfc3161.decode_timestamp_response(stamp)
        builder.build().verify_message(response, head.body.encode())
        return response.tst_info.gen_time.astimezone(UTC)
    except rfc3161.VerificationError as error:
        raise StampError(f"the time stamp does not hold ({_plain(error)})") from None
    except (ValueError, TypeError, OverflowError):
        raise StampError("not a time stamp (RFC 3161)") from None


def _plain(error: Exception) -> str:
    """Return the library's reason without what it quotes."""
    return str(error).split(":", 1)[0].rstrip(".")[:80]


@dataclass(slots=True)
class StampsJudged:
    """What became of check C7.

    Attributes:
        findings: Every stamp that does not hold, or whose time contradicts the events.
        count: Stamps that hold.
        sentence: What was found, for a reviewer.
        whole: Every closed round has a stamp that was made before the next event.
        made: When the head of a size was stamped, by the authority's clock, of the stamps that hold.
        timely: Sizes of the heads that were stamped before the next event.
    """

    sentence: str
    findings: list[Finding] = field(default_factory=list)
    count: int = 0
    whole: bool = False
    made: dict[int, datetime] = field(default_factory=dict)
    timely: set[int] = field(default_factory=set)

    def find(self, sentence: str, file: str, index: int | None = None) -> None:
        """Take a finding."""
        self.findings.append(Finding(CHECK, sentence, index, file))


def judge_stamps(
    files: Mapping[str, bytes],
    tree: Tree,
    origin: str,
    events: Sequence[tuple[int, Event]],
    roots: Sequence[x509.Certificate],
) -> StampsJudged:
    """Judge the time stamps of a bundle.

    Args:
        files: The bundle's files by path.
        tree: The tree of the bundle's entries.
        origin: The log's origin.
        events: The events that can be read, with their indexes, in order.
        roots: Certificates of the trust file; empty when it names no authority.
    """
    paths = sorted(path for path in files if path.startswith(STAMPS))
    if not roots or not paths:
        return StampsJudged(NO_STAMPS if roots else NO_ROOTS)
    judged, times = StampsJudged(""), _EventTimes(events)
    closing, timely = closing_heads(events), judged.timely
    try:
        for path in paths:
            size = _judge_one(judged, path, files[path], (tree, origin, roots), times)
            if size is not None:
                timely.add(size)
    except StampsUnavailableError:
        return StampsJudged(NO_LIBRARY)
    lacking = [str(number) for size, number in closing.items() if size not in timely]
    judged.whole = bool(closing) and not lacking
    judged.sentence = f"{len(closing) - len(lacking)} of {len(closing)} closed rounds were stamped in time"
    judged.sentence += f"; not so: round {', '.join(lacking[:20])}." if lacking else "."
    return judged


def _judge_one(
    judged: StampsJudged,
    path: str,
    stamp: bytes,
    given: tuple[Tree, str, Sequence[x509.Certificate]],
    times: "_EventTimes",
) -> int | None:
    """Judge one stamp; returns the size of its head if it holds and was made in time."""
    tree, origin, roots = given
    named = _NAME.fullmatch(path)
    if named is None:
        judged.find(f"{path}: not the name of a time stamp", path)
        return None
    size = int(named[1])
    if size > tree.size:
        judged.find(f"{path}: a stamp over {size} entries, the bundle has {tree.size}", path)
        return None
    try:
        made = open_stamp(stamp, Checkpoint(origin, size, tree.root(size)), roots)
    except StampError as error:
        judged.find(f"{path}: {error.sentence}", path)
        return None
    judged.count += 1
    judged.made[size] = made
    skew = timedelta(seconds=SKEW_SECONDS)
    late_event = times.first_after(made + skew, size)
    if late_event is not None:
        sentence = f"{path}: made before event {late_event}, which it covers, says that it happened"
        judged.find(sentence, path, late_event)
        return None
    return size if made <= times.follows(size) + skew else None


class _EventTimes:
    """When the events of a log say that they happened."""

    def __init__(self, events: Sequence[tuple[int, Event]]) -> None:
        self._indexes = [index for index, _ in events]
        self._times = [datetime.fromisoformat(event.time) for _, event in events]
        self._latest: list[int] = []  # place of the latest event so far
        for place, time in enumerate(self._times):
            before = self._latest[-1] if self._latest else 0
            self._latest.append(place if time > self._times[before] else before)

    def first_after(self, moment: datetime, size: int) -> int | None:
        """Return an event under the head of a size that says it happened after a moment."""
        count = bisect_left(self._indexes, size)
        if count == 0 or self._times[self._latest[count - 1]] <= moment:
            return None
        return self._indexes[self._latest[count - 1]]

    def follows(self, size: int) -> datetime:
        """Return when the first event after the head of a size happened; of the last head, its last event."""
        if not self._times:
            return datetime.min.replace(tzinfo=UTC)
        return self._times[min(bisect_left(self._indexes, size), len(self._times) - 1)]

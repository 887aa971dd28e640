"""C7: time stamps of a real authority (`openssl ts`) over heads that close rounds."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedmedlora_audit import event_data as of
from fedmedlora_audit import stamps
from fedmedlora_audit.checkpoint import Checkpoint
from fedmedlora_audit.errors import StampError, TrustError
from fedmedlora_audit.report.keeping import keeping_of
from fedmedlora_audit.stamps import StampsJudged, open_stamp, read_roots, request_of, stamp_path
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog
from fedmedlora_testkit.tsa import DAY, Authority, needs_openssl, recorded_stamp

pytestmark = needs_openssl
HEAD = Checkpoint(ORIGIN, 152, bytes(range(32)))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tsa") / "authority")


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


# -- one stamp


def test_a_good_stamp_tells_when_its_head_existed(authority: Authority) -> None:
    request, nonce = request_of(HEAD)
    made = open_stamp(authority.reply(request), HEAD, [authority.root], nonce=nonce)
    assert abs((now() - made).total_seconds()) < 60
    assert made.tzinfo is dt.UTC


@pytest.mark.parametrize(
    "other",
    [
        Checkpoint(ORIGIN, 153, HEAD.root),
        Checkpoint(ORIGIN, 152, bytes(32)),
        Checkpoint("elsewhere.example/log", 152, HEAD.root),
    ],
)
def test_a_stamp_over_another_head_is_refused(authority: Authority, other: Checkpoint) -> None:
    with pytest.raises(StampError, match="Mismatch between messages"):
        open_stamp(authority.stamp(HEAD), other, [authority.root])


def test_a_stamp_that_answers_another_request_is_refused(authority: Authority) -> None:
    stamp, (_, nonce) = authority.stamp(HEAD), request_of(HEAD)
    with pytest.raises(StampError, match="Nonce mismatch"):
        open_stamp(stamp, HEAD, [authority.root], nonce=nonce)
    open_stamp(stamp, HEAD, [authority.root])  # who does not know the request cannot tell


def test_a_stamp_of_an_unknown_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    with pytest.raises(StampError, match="does not hold"):
        open_stamp(other.stamp(HEAD), HEAD, [authority.root])
    open_stamp(other.stamp(HEAD), HEAD, [authority.root, other.root])


def test_a_changed_byte_is_refused_or_changes_nothing_that_counts(authority: Authority) -> None:
    stamp = authority.stamp(HEAD)
    made = open_stamp(stamp, HEAD, [authority.root])
    refused = 0
    for place in range(len(stamp)):
        changed = stamp[:place] + bytes([stamp[place] ^ 1]) + stamp[place + 1 :]
        try:
            assert open_stamp(changed, HEAD, [authority.root]) == made
        except StampError:
            refused += 1
    assert refused > 0.5 * len(stamp)


def test_bytes_that_are_no_stamp_are_refused(authority: Authority) -> None:
    for content in (b"", b"0", b"no stamp", authority.stamp(HEAD)[:-1], bytes(stamps.MAX_STAMP_BYTES + 1)):
        with pytest.raises(StampError):
            open_stamp(content, HEAD, [authority.root])


def test_a_refusal_of_the_authority_is_no_stamp(authority: Authority) -> None:
    with pytest.raises(StampError):
        open_stamp(authority.reply(b"no request"), HEAD, [authority.root])


def test_a_stamp_still_holds_after_the_authoritys_certificate_expired() -> None:
    stamp, head, root, expired = recorded_stamp()
    assert expired < now()
    made = open_stamp(stamp, head, [root])
    assert made < expired


@pytest.mark.parametrize(("start", "end"), [(-9, -2), (2, 9)])
def test_a_stamp_made_outside_the_certificates_validity_is_refused(
    tmp_path: Path, start: int, end: int
) -> None:
    authority = Authority(tmp_path / "authority", valid=(now() + start * DAY, now() + end * DAY))
    with pytest.raises(StampError, match="does not hold"):
        open_stamp(authority.stamp(HEAD), HEAD, [authority.root])


def test_a_certificate_from_the_bundle_is_no_anchor(authority: Authority, tmp_path: Path) -> None:
    """The attack that the library would allow: its intermediates are anchors, so none are handed to it."""
    import rfc3161_client as rfc3161

    forger = Authority(tmp_path / "forger")
    stamp = forger.stamp(HEAD)
    with pytest.raises(StampError):
        open_stamp(stamp, HEAD, [authority.root])
    builder = rfc3161.VerifierBuilder(roots=[authority.root], intermediates=[forger.root])
    assert builder.build().verify_message(rfc3161.decode_timestamp_response(stamp), HEAD.body.encode())


def test_a_certificate_for_other_uses_stamps_nothing(authority: Authority) -> None:
    """openssl signs with no other kind, so the rule is shown by what it demands."""
    usage = authority.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage.critical
    assert list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]


# -- the bundle


class DatedLog(StudyLog):
    """A log whose events are a second apart from a moment on."""

    def __init__(self, start: dt.datetime, **changes: Any) -> None:
        super().__init__(**changes)
        self.start = start

    def draft(self, actor: str, type_: str, data: of.Data, **fields: Any) -> bytes:
        fields.setdefault("time", self.start + dt.timedelta(seconds=self.minute))
        return super().draft(actor, type_, data, **fields)


class Stamped(Forger):
    """A study that ends now (or so long before), whose closed rounds a real authority stamps."""

    def __init__(self, authority: Authority, *, ago: dt.timedelta = dt.timedelta(0), **changes: Any) -> None:
        start = now() - ago - dt.timedelta(seconds=150)
        super().__init__(DatedLog(start, **changes).play(2, {"upload": ["site-d"]}))
        self.trust = Trust.from_terms(
            self.log.terms, genesis=self.log.entries[0].leaf, tsa_roots=[authority.root]
        )
        closing = [e.index + 1 for e in self.log.entries if e.event.type == "round.closed"]
        self.files = {stamp_path(size): authority.stamp(self.head(size)) for size in closing}

    def head(self, size: int) -> Checkpoint:
        return Checkpoint(ORIGIN, size, self.log.tree.root(size))

    def verdict(self, folder: Path, trust: Trust | None = None) -> Verdict:
        return verify_bundle(self.seal(folder, extra=self.files), trust or self.trust)


@pytest.fixture
def stamped(authority: Authority) -> Stamped:
    return Stamped(authority)


def test_a_study_stamped_as_it_went_passes(stamped: Stamped, tmp_path: Path) -> None:
    verdict = stamped.verdict(tmp_path / "bundle")
    assert verdict.findings == ()
    check = verdict.checks["C7"]
    assert (check.result, check.count) == ("pass", 2)
    assert check.sentence == "2 of 2 closed rounds were stamped in time."


def test_without_an_authority_in_the_trust_file_nothing_is_judged(stamped: Stamped, tmp_path: Path) -> None:
    stamped.files = dict.fromkeys(stamped.files, b"whatever")
    verdict = stamped.verdict(tmp_path / "bundle", stamped.trust.model_copy(update={"tsa_roots": None}))
    assert verdict.checks["C7"].result == "not judged"
    assert "names no time-stamping authority" in verdict.checks["C7"].sentence


def test_without_stamps_nothing_is_judged_and_a_charter_that_asks_for_them_is_incomplete(
    authority: Authority, tmp_path: Path
) -> None:
    made = Stamped(authority, audit={"timestamps": True})
    assert made.verdict(tmp_path / "whole").verdict == "pass"
    made.files.popitem()
    verdict = made.verdict(tmp_path / "part")
    assert verdict.verdict == "incomplete"
    assert verdict.checks["C7"].sentence == "1 of 2 closed rounds were stamped in time; not so: round 2."
    made.files.clear()
    verdict = made.verdict(tmp_path / "none")
    assert verdict.verdict == "incomplete"
    assert "no time stamp" in verdict.checks["C7"].sentence


def test_without_the_library_nothing_is_judged(
    stamped: Stamped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    verdict = stamped.verdict(tmp_path / "bundle")
    assert verdict.checks["C7"].result == "not judged"
    assert "'stamps' extra" in verdict.checks["C7"].sentence
    assert verdict.verdict == "pass"


def stamp_over_another_head(made: Stamped) -> None:
    first, second = made.files
    made.files[second] = made.files[first]


def stamp_with_a_changed_byte(made: Stamped) -> None:
    path = next(iter(made.files))
    content = made.files[path]
    made.files[path] = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


def stamp_of_an_unknown_authority(made: Stamped) -> None:
    other = Trust.from_terms(made.log.terms, genesis="0" * 64, tsa_roots=[recorded_stamp()[2]])
    made.trust = made.trust.model_copy(update={"tsa_roots": other.tsa_roots})


def stamp_beyond_the_log(made: Stamped) -> None:
    made.files["stamps/9999.tsr"] = next(iter(made.files.values()))


def file_that_is_no_stamp(made: Stamped) -> None:
    made.files["stamps/readme.txt"] = b"x"


def history_rewritten_under_old_stamps(made: Stamped) -> None:
    """Everybody agrees on another past; the stamps are of the old one."""
    index = made.index("model.released")
    del made.notes[index]
    index = made.index("round.plan")
    made.change(index, time="2026-01-01T00:00:00Z")
    made.resign()


DEFECTS = [
    stamp_over_another_head,
    stamp_with_a_changed_byte,
    stamp_of_an_unknown_authority,
    stamp_beyond_the_log,
    file_that_is_no_stamp,
    history_rewritten_under_old_stamps,
]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_bad_stamp_is_named_and_passes_unseen_without_the_check(
    defect: Callable[[Stamped], None], stamped: Stamped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defect(stamped)
    verdict = stamped.verdict(tmp_path / "bundle")
    assert verdict.verdict == "fail"
    assert verdict.checks["C7"].result == "fail"
    blamed = [finding.file for finding in verdict.findings if finding.check == "C7"]
    assert all(path is not None and path.startswith("stamps/") for path in blamed)
    monkeypatch.setattr("fedmedlora_audit.verify.judge_stamps", lambda *_: StampsJudged("off"))
    assert "C7" not in {finding.check for finding in stamped.verdict(tmp_path / "bundle").findings}


def test_events_dated_after_the_stamp_that_covers_them_are_named(
    authority: Authority, tmp_path: Path
) -> None:
    """Forward-dated events: the authority's clock says that they are older than they claim."""
    verdict = Stamped(authority, ago=-DAY).verdict(tmp_path / "bundle")
    check = verdict.checks["C7"]
    assert check.result == "fail"
    assert check.first is not None
    assert "says that it happened" in check.sentence


def test_stamps_made_long_after_are_no_findings_and_no_proof(authority: Authority, tmp_path: Path) -> None:
    """The authority was down, or the history was made up yesterday: nobody can tell, so nothing is judged."""
    verdict = Stamped(authority, ago=2 * DAY).verdict(tmp_path / "bundle")
    check = verdict.checks["C7"]
    assert (check.result, check.count) == ("not judged", 2)
    assert check.sentence == "0 of 2 closed rounds were stamped in time; not so: round 1, 2."
    assert verdict.verdict == "pass"


# -- the trust file


def test_the_trust_file_carries_the_authorities_and_nothing_where_there_are_none(
    authority: Authority,
) -> None:
    log = StudyLog()
    without = Trust.from_terms(log.terms, genesis="0" * 64)
    assert b"tsa_roots" not in without.to_json()
    assert without.tsa_certificates == ()
    roots = read_roots((authority.folder / "root.pem").read_bytes())
    trust = Trust.from_terms(log.terms, genesis="0" * 64, tsa_roots=roots)
    assert Trust.from_json(trust.to_json()).tsa_certificates == (authority.root,)
    broken = trust.to_json().replace(b'"tsa_roots":["MII', b'"tsa_roots":["AII')
    with pytest.raises(TrustError, match="tsa_roots"):
        Trust.from_json(broken)
    with pytest.raises(StampError, match="PEM"):
        read_roots(b"no certificate")


def test_a_report_tells_of_each_closed_round_whether_it_was_stamped(stamped: Stamped, tmp_path: Path) -> None:
    last = max(stamped.files, key=lambda path: int(path.split("/")[1].removesuffix(".tsr")))
    whole = keeping_of(stamped.verdict(tmp_path / "whole"))
    assert [(row.round, row.timely) for row in whole.stamps] == [(1, True), (2, True)]
    assert all(abs(dt.datetime.fromisoformat(row.time) - now()) < 2 * DAY for row in whole.stamps)
    del stamped.files[last]
    part = keeping_of(stamped.verdict(tmp_path / "part"))
    assert [(row.round, row.timely, bool(row.time)) for row in part.stamps] == [
        (1, True, True),
        (2, False, False),
    ]
    stamped.files.clear()
    none = keeping_of(stamped.verdict(tmp_path / "none"))
    assert (none.stamps, none.stamps_said) == ((), stamps.NO_STAMPS)

"""A site's side of a session: whole sums without a network, and every lie refused.

Each attack is also run with its check taken out, and must then go through: the check is what stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest

from fedmedlora_audit.blob import blob_digest
from fedmedlora_audit.event_data import IdDigest
from fedmedlora_audit.session import view_of
from fedmedlora_crypto.secagg import Aggregator, SessionTerms
from fedmedlora_site.errors import StepRefusal
from fedmedlora_site.session import LiveSession
from fedmedlora_testkit.audit_log import StudyLog

TERMS = StudyLog().terms
SITES = TERMS.member_ids
BASE = "b" * 64


def live_session(site: str, *, base: str = BASE, attempt: int = 1) -> LiveSession:
    return LiveSession(TERMS, site, round_number=1, attempt=attempt, purpose="update", base=base)


def rows(payloads: dict[str, bytes], ids: Iterable[str] | None = None) -> tuple[IdDigest, ...]:
    chosen = payloads if ids is None else ids
    return tuple(IdDigest(id=site, digest=blob_digest(payloads[site])) for site in sorted(chosen))


@dataclass
class Ward:
    """Four sites and what they sent, step by step."""

    sites: dict[str, LiveSession] = field(
        default_factory=lambda: {site: live_session(site) for site in SITES}
    )
    keys: dict[str, bytes] = field(default_factory=dict)
    shares: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)

    @property
    def sid(self) -> str:
        return self.sites[SITES[0]].sid

    def advertised(self) -> Ward:
        self.keys = {site: live.advertise() for site, live in self.sites.items()}
        return self

    def shared(self) -> Ward:
        self.advertised()
        view = view_of(self.sid, rows(self.keys))
        for site, live in self.sites.items():
            own = blob_digest(self.keys[site])
            self.shares[site] = live.share(rows(self.keys), view, own, self.keys)
        return self

    def masked(self, gone: Iterable[str] = ()) -> Ward:
        self.shared()
        for number, (site, live) in enumerate(self.sites.items()):
            own = blob_digest(self.shares[site])
            live.fix(rows(self.shares), live.view, own, self.shares)
            vector = np.full(9, 10**number, dtype=np.uint32)
            live.mask(vector)
            if site not in gone:
                self.uploads[site] = vector.astype("<u4").tobytes()
        return self

    def agreed(self, gone: Iterable[str] = ()) -> Ward:
        self.masked(gone)
        u3 = rows(self.uploads)
        for site in self.uploads:
            live = self.sites[site]
            live.check_survivors(u3, live.view, blob_digest(self.uploads[site]))
            live.agree(u3)
        return self


def refused(act: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(StepRefusal) as found:
        act()
    return found.value.step, found.value.reason


@pytest.mark.parametrize("gone", [(), ("site-c",)])
def test_the_sum_of_the_survivors_comes_out(gone: tuple[str, ...]) -> None:
    ward = Ward().agreed(gone)
    survivors = sorted(ward.uploads)
    dropped = sorted(set(SITES) - set(survivors))
    opened = {}
    for site in survivors:
        live = ward.sites[site]
        live.check_request(signers=survivors, self_of=survivors, pair_of=dropped)
        opened[SITES.index(site) + 1] = live.open(survivors)
    total = np.zeros(9, dtype=np.uint32)
    for upload in ward.uploads.values():
        total += np.frombuffer(upload, dtype="<u4")
    index = {site: i for i, site in enumerate(SITES, start=1)}
    session = SessionTerms(
        bytes.fromhex(ward.sid), TERMS.n, TERMS.threshold, TERMS.colluding_sites, TERMS.suite
    )
    Aggregator(session).unmask(
        total,
        {index[s]: p for s, p in ward.keys.items()},
        {index[s]: p for s, p in ward.shares.items()},
        [index[s] for s in survivors],
        opened,
    )
    expected = sum(10**number for number, site in enumerate(SITES) if site in survivors)
    assert total.tolist() == [expected] * 9


def opening(live: LiveSession, **changes: object) -> Callable[[], None]:
    fields: dict[str, object] = {"sid": live.sid, "suite": TERMS.suite, "ready": SITES, **changes}
    return lambda: live.check_opening(**fields)  # type: ignore[arg-type]


def test_an_honest_opening_is_accepted() -> None:
    opening(live_session("site-a"))()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sid": live_session("site-a", base="c" * 64).sid}, "wrong_sid"),  # another base model
        ({"sid": live_session("site-a", attempt=2).sid}, "wrong_sid"),
        ({"suite": "plain/1"}, "wrong_charter"),
        ({"ready": SITES[:2]}, "short_roster"),
        ({"ready": (*SITES[:3], "site-z")}, "not_in_roster"),
        ({"ready": (*SITES, SITES[0])}, "duplicate"),
    ],
)
def test_a_dishonest_opening_is_refused(changes: dict[str, object], reason: str) -> None:
    assert refused(opening(live_session("site-a"), **changes)) == ("advertise", reason)


def share_with(ward: Ward, u1: tuple[IdDigest, ...], view: str | None = None) -> Callable[[], bytes]:
    payloads = {row.id: ward.keys[row.id] for row in u1}
    own = blob_digest(ward.keys["site-a"])
    shown = view or view_of(ward.sid, u1)
    return lambda: ward.sites["site-a"].share(u1, shown, own, payloads)


def test_u1_without_this_site_is_refused() -> None:
    ward = Ward().advertised()
    assert refused(share_with(ward, rows(ward.keys, SITES[1:]))) == ("share", "not_included")


def test_u1_with_other_keys_of_this_site_is_refused() -> None:
    ward = Ward().advertised()
    ward.keys["site-a"] = live_session("site-a").advertise()
    own = blob_digest(b"what was really sent")
    live = ward.sites["site-a"]
    act = lambda: live.share(rows(ward.keys), view_of(ward.sid, rows(ward.keys)), own, ward.keys)  # noqa: E731
    assert refused(act) == ("share", "wrong_digest")


def test_u1_below_the_threshold_is_refused() -> None:
    ward = Ward().advertised()
    assert refused(share_with(ward, rows(ward.keys, SITES[:2]))) == ("share", "short_roster")


def test_a_view_of_another_list_is_refused() -> None:
    """Two groups of sites that were shown two lists would mask against each other's absence."""
    ward = Ward().advertised()
    act = share_with(ward, rows(ward.keys), view_of(ward.sid, rows(ward.keys, SITES[:3])))
    assert refused(act) == ("share", "wrong_digest")


def test_a_copied_key_is_refused() -> None:
    ward = Ward().advertised()
    ward.keys["site-d"] = ward.keys["site-c"]
    step, reason = refused(share_with(ward, rows(ward.keys)))
    assert step == "share"
    assert reason in {"wrong_key", "duplicate", "bad_share"}


def test_u2_without_this_site_is_refused() -> None:
    ward = Ward().shared()
    live = ward.sites["site-a"]
    u2 = rows(ward.shares, SITES[1:])
    payloads = {row.id: ward.shares[row.id] for row in u2}
    act = lambda: live.fix(u2, live.view, blob_digest(ward.shares["site-a"]), payloads)  # noqa: E731
    assert refused(act) == ("upload", "not_included")


def test_shares_made_under_another_session_are_refused_and_name_their_sender() -> None:
    ward, other = Ward().shared(), Ward().shared()
    ward.shares["site-b"] = other.shares["site-b"]
    live = ward.sites["site-a"]
    own = blob_digest(ward.shares["site-a"])
    with pytest.raises(StepRefusal, match="site-b") as found:
        live.fix(rows(ward.shares), live.view, own, ward.shares)
    assert found.value.step == "upload"


def test_masks_are_used_once() -> None:
    ward = Ward().masked()
    vector = np.zeros(9, dtype=np.uint32)
    assert refused(lambda: ward.sites["site-a"].mask(vector)) == ("upload", "spent")
    assert not vector.any()


def test_survivors_beyond_the_inbox_are_refused() -> None:
    # R5.5.3
    ward = Ward().masked()
    live = ward.sites["site-a"]
    u3 = (*rows(ward.uploads), IdDigest(id="site-z", digest="0" * 64))
    act = lambda: live.check_survivors(u3, live.view, blob_digest(ward.uploads["site-a"]))  # noqa: E731
    assert refused(act) == ("survivors", "not_in_roster")


def test_another_upload_in_this_sites_name_is_refused() -> None:
    # R5.5.3
    ward = Ward().masked()
    live = ward.sites["site-a"]
    act = lambda: live.check_survivors(rows(ward.uploads), live.view, "0" * 64)  # noqa: E731
    assert refused(act) == ("survivors", "wrong_digest")


def test_too_few_survivors_are_refused() -> None:
    ward = Ward().masked()
    live = ward.sites["site-a"]
    u3 = rows(ward.uploads, SITES[:2])
    act = lambda: live.check_survivors(u3, live.view, blob_digest(ward.uploads["site-a"]))  # noqa: E731
    assert refused(act) == ("survivors", "short_survivors")


def test_a_second_consent_is_refused() -> None:
    ward = Ward().agreed()
    u3 = rows(ward.uploads, SITES[:3])
    assert refused(lambda: ward.sites["site-a"].agree(u3)) == ("survivors", "spent")


REQUESTS: list[tuple[dict[str, list[str]], str]] = [
    ({"pair_of": ["site-c", "site-d"]}, "both_seeds"),  # a survivor's pair key as well
    ({"self_of": [*SITES]}, "both_seeds"),  # the dropped site's self seed as well
    ({"self_of": ["site-a", "site-b"], "pair_of": ["site-c", "site-d"]}, "both_seeds"),
    ({"signers": ["site-a", "site-b"]}, "short_survivors"),
    ({"signers": ["site-a", "site-b", "site-c"]}, "not_in_roster"),  # site-c dropped out: it signed nothing
    ({"signers": ["site-a", "site-b", "site-b"]}, "duplicate"),
]


@pytest.mark.parametrize(("changes", "reason"), REQUESTS)
def test_a_request_for_anything_but_the_agreed_sum_is_refused(
    changes: dict[str, list[str]], reason: str
) -> None:
    ward = Ward().agreed(gone=("site-c",))
    survivors = ["site-a", "site-b", "site-d"]
    fields = {"signers": survivors, "self_of": survivors, "pair_of": ["site-c"], **changes}
    live = ward.sites["site-a"]
    assert refused(lambda: live.check_request(**fields)) == ("unmask", reason)


def test_shares_are_opened_once() -> None:
    ward = Ward().agreed()
    live = ward.sites["site-a"]
    live.open(SITES)
    assert refused(lambda: live.open(SITES))[0] == "unmask"


def test_an_erased_session_answers_nothing() -> None:
    ward = Ward().agreed()
    live = ward.sites["site-a"]
    live.erase()
    assert refused(lambda: live.open(SITES))[0] == "unmask"


def test_nothing_secret_is_shown() -> None:
    ward = Ward().masked()
    assert repr(ward.sites["site-a"]).startswith("LiveSession(sid=")
    assert len(repr(ward.sites["site-a"])) < 60


def test_without_the_own_entry_check_a_swapped_upload_would_be_consented_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LiveSession, "_check_own", lambda *_: None)
    ward = Ward().masked()
    live = ward.sites["site-a"]
    swapped = tuple(
        row if row.id != "site-a" else IdDigest(id="site-a", digest="0" * 64) for row in rows(ward.uploads)
    )
    live.check_survivors(swapped, live.view, blob_digest(ward.uploads["site-a"]))
    live.agree(swapped)


def test_without_the_view_check_a_split_view_would_be_shared_under(monkeypatch: pytest.MonkeyPatch) -> None:
    ward = Ward().advertised()
    other = view_of(ward.sid, rows(ward.keys, SITES[:3]))
    monkeypatch.setattr("fedmedlora_site.session.view_of", lambda *_: other)
    assert share_with(ward, rows(ward.keys), other)()

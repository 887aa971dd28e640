"""A site's side of a session on the sparse graph: neighbours only, and every thin list refused."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np
import pytest
import rfc8785

from fedmedlora_audit.blob import blob_digest
from fedmedlora_audit.charter import CharterTerms, threshold_of
from fedmedlora_audit.event_data import IdDigest
from fedmedlora_audit.session import view_of
from fedmedlora_crypto.secagg.graph import Graph, commitment, ring_order
from fedmedlora_site.errors import StepRefusal
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.session import LiveSession
from fedmedlora_testkit.audit_log import charter_table

N = 14  # T = 9 with two colluding
BASE = "b" * 64


def sparse_terms(share_threshold: int = 7) -> CharterTerms:
    rules = {
        **charter_table(N)["secure_aggregation"],
        "colluding_sites": 2,
        "threshold": threshold_of(N, 2),
        "graph": {"neighbours": 10, "share_threshold": share_threshold, "window_survivors": 3},
    }
    return CharterTerms.from_json(rfc8785.dumps(charter_table(N, secure_aggregation=rules)))


TERMS = sparse_terms()
SITES = TERMS.member_ids


def secret_of(site: str) -> bytes:
    return hashlib.sha256(site.encode()).digest()


HEADS = {site: commitment(secret_of(site), i).hex() for i, site in enumerate(SITES, start=1)}


def live_session(site: str, terms: CharterTerms = TERMS, heads: dict[str, str] | None = None) -> LiveSession:
    return LiveSession(
        terms,
        site,
        round_number=1,
        attempt=1,
        purpose="update",
        base=BASE,
        commitments=HEADS if heads is None else heads,
        graph_secret=secret_of(site),
    )


def rows(payloads: dict[str, bytes], ids: Collection[str] | None = None) -> tuple[IdDigest, ...]:
    return tuple(IdDigest(id=site, digest=blob_digest(payloads[site])) for site in sorted(ids or payloads))


class Ward:
    """All sites, after everybody dealt."""

    def __init__(self) -> None:
        self.sites = {site: live_session(site) for site in SITES}
        self.sid = self.sites[SITES[0]].sid
        self.keys = {site: live.advertise() for site, live in self.sites.items()}
        view = view_of(self.sid, rows(self.keys))
        self.shares = {
            site: live.share(rows(self.keys), view, blob_digest(self.keys[site]), self.keys)
            for site, live in self.sites.items()
        }
        given = {i: self.keys[site][-32:] for i, site in enumerate(SITES, start=1)}
        self.ring = [SITES[i - 1] for i in ring_order(bytes.fromhex(self.sid), N, given)]

    def fix(self, site: str, u2: Collection[str] = SITES) -> None:
        live = self.sites[site]
        payloads = {other: self.shares[other] for other in live.inbox(u2)}
        live.fix(rows(self.shares, u2), live.view, blob_digest(self.shares[site]), payloads)


def refused(ward: Ward, site: str, u2: Collection[str]) -> tuple[str, str]:
    with pytest.raises(StepRefusal) as found:
        ward.fix(site, u2)
    return found.value.step, found.value.reason


def test_a_site_needs_the_shares_of_its_neighbours_only() -> None:
    # R6.15.1
    ward = Ward()
    at = ward.ring.index("site-a")
    expected = {ward.ring[(at + d) % N] for d in range(-5, 6)}
    assert set(ward.sites["site-a"].inbox(SITES)) == expected
    ward.fix("site-a")


def test_an_inbox_with_an_empty_window_is_refused() -> None:
    # R6.15.5: nine sites are T, and yet five that stand side by side are missing
    ward = Ward()
    left = ward.ring[5:]
    assert len(left) == TERMS.threshold
    assert refused(ward, left[0], left) == ("upload", "short_inbox")


def test_without_the_window_rule_the_empty_window_would_be_masked_around(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ward = Ward()
    monkeypatch.setattr(Graph, "check_windows", lambda *_: None)
    ward.fix(ward.ring[5], ward.ring[5:])


def test_survivors_with_an_empty_window_are_refused_before_anything_is_recorded() -> None:
    # R6.15.5
    ward = Ward()
    site, left = ward.ring[5], ward.ring[5:]
    live = ward.sites[site]
    ward.fix(site)
    live.mask(np.zeros(4, dtype=np.uint32))
    uploads = dict.fromkeys(SITES, b"upload")
    for listed, reason in ((left, "short_survivors"), (ward.ring, None)):
        u3 = rows(uploads, listed)
        if reason is None:
            live.check_survivors(u3, live.view, blob_digest(b"upload"))
            live.agree(u3)
            return
        with pytest.raises(StepRefusal) as found:
            live.check_survivors(u3, live.view, blob_digest(b"upload"))
        assert (found.value.step, found.value.reason) == ("survivors", reason)


def test_an_inbox_that_names_no_member_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(StepRefusal) as found:
        Ward().sites["site-a"].inbox([*SITES, "site-z"])
    assert found.value.reason == "not_in_roster"


def test_an_inbox_before_the_shares_is_out_of_order() -> None:
    with pytest.raises(StepRefusal) as found:
        live_session("site-a").inbox(SITES)
    assert found.value.reason == "wrong_order"


def test_a_log_with_another_commitment_in_this_sites_name_ends_its_part() -> None:
    # R6.15.6
    with pytest.raises(StepRefusal) as found:
        live_session("site-a", heads={**HEADS, "site-a": "0" * 64})
    assert (found.value.step, found.value.reason) == ("advertise", "wrong_key")


def test_a_neighbour_that_does_not_open_its_commitment_is_refused_by_name() -> None:
    # R6.15.6
    heads = {**HEADS, "site-b": "0" * 64}
    live = live_session("site-a", heads=heads)
    keys = {site: (live if site == "site-a" else live_session(site)).advertise() for site in SITES}
    with pytest.raises(StepRefusal, match="site-b: contribution") as found:
        live.share(rows(keys), view_of(live.sid, rows(keys)), blob_digest(keys["site-a"]), keys)
    assert (found.value.step, found.value.reason) == ("share", "wrong_key")


def test_a_charter_with_a_weak_graph_ends_a_sites_part() -> None:
    # R6.15.2
    with pytest.raises(StepRefusal) as found:
        live_session("site-a", sparse_terms(share_threshold=6))
    assert found.value.reason == "wrong_charter"


def test_contributions_of_another_round_or_charter_start_elsewhere() -> None:
    # R6.15.6: what one study reveals says nothing about another
    keys = Keystore.generate("site-a")
    starts = {keys.graph_secret(charter * 64, number) for charter in "ab" for number in (1, 2)}
    assert len(starts) == 4
    assert keys.graph_secret("a" * 64, 1) in starts
    assert keys.graph_secret("a" * 64, 1) != keys.rounding_key("a" * 64, 1)

"""Durable markers: what a site must never do twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_site.errors import FolderError
from fedmedlora_site.markers import Consent, Markers

SIDS = ["1" * 64, "2" * 64, "3" * 64]


def test_markers_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "markers.jsonl"
    markers = Markers(path)
    markers.mark_seen(SIDS[0], round_number=1)
    markers.mark_consented(Consent(SIDS[0], "base", ("a", "b", "c")))
    markers.mark_released(SIDS[0], update="study/1")
    markers.mark_seen(SIDS[1], round_number=2)
    markers.mark_erased(SIDS[1])
    again = Markers(path)
    assert again.seen(SIDS[0])
    assert not again.seen(SIDS[2])
    assert again.consents("base") == [Consent(SIDS[0], "base", ("a", "b", "c"))]
    assert again.consents("other") == []
    assert again.released_in("study/1") == SIDS[0]
    assert again.released_in("study/2") is None
    assert again.erased(SIDS[1])
    assert list(again.open_sessions()) == [SIDS[0]]


@given(cut=st.integers(min_value=1, max_value=60))
def test_a_torn_last_line_is_dropped_and_does_not_spoil_the_next(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("markers") / "markers.jsonl"
    markers = Markers(path)
    markers.mark_seen(SIDS[0], round_number=1)
    markers.mark_seen(SIDS[1], round_number=2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    again = Markers(path)
    assert again.seen(SIDS[0])
    assert not again.seen(SIDS[1])
    again.mark_erased(SIDS[2])
    third = Markers(path)
    assert third.seen(SIDS[0])
    assert third.erased(SIDS[2])


def test_damage_before_the_last_line_stops_the_site(tmp_path: Path) -> None:
    path = tmp_path / "markers.jsonl"
    markers = Markers(path)
    markers.mark_seen(SIDS[0], round_number=1)
    markers.mark_seen(SIDS[1], round_number=2)
    path.write_bytes(path.read_bytes().replace(b'"kind": "seen"', b'"kind": "s??n"', 1))
    with pytest.raises(FolderError, match=r"markers\.jsonl:1"):
        Markers(path)


def test_a_marker_is_on_the_disk_when_the_call_returns(tmp_path: Path) -> None:
    # R5.4.3
    path = tmp_path / "markers.jsonl"
    Markers(path).mark_released(SIDS[0], update="study/1")
    assert b'"kind": "released"' in path.read_bytes()

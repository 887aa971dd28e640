"""Versions of the protocol: what two ends agree on, what they say of themselves, and what is refused."""

from __future__ import annotations

import pytest

from fedmedlora_protos import versions
from fedmedlora_protos.versions import SILENT, Speaks, disagreement, parse_speaks
from fedmedlora_protos.wire import WireError


@pytest.mark.parametrize(
    ("site", "coordinator", "agreed"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 3), (2, 5), 3),
        ((4, 6), (1, 4), 4),
        ((1, 1), (2, 3), None),
        ((3, 4), (1, 2), None),
    ],
)
def test_two_ends_agree_on_the_highest_version_of_both(
    site: tuple[int, int], coordinator: tuple[int, int], agreed: int | None
) -> None:
    # R3.3.1
    one, other = Speaks(*site, "0.1.0"), Speaks(*coordinator, "0.2.0")
    assert one.common(other) == other.common(one) == agreed


def test_what_an_end_says_of_itself_is_read_as_it_was_said() -> None:
    said = Speaks(2, 11, "1.4.0rc1+local.2")
    assert parse_speaks(said.metadata()) == said
    assert parse_speaks(versions.ours().metadata()) == versions.ours()


def test_an_end_that_says_nothing_speaks_version_1() -> None:
    assert parse_speaks([("user-agent", "grpc"), ("trace-bin", b"\0")]) == SILENT
    assert SILENT.common(Speaks(1, 4, "0.9.0")) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        [(versions.PROTOCOL_KEY, "")],
        [(versions.PROTOCOL_KEY, "0-1")],
        [(versions.PROTOCOL_KEY, "2-1")],
        [(versions.PROTOCOL_KEY, "1-99999")],
        [(versions.PROTOCOL_KEY, "1\n2")],
        [(versions.PROTOCOL_KEY, b"1")],
        [(versions.PROTOCOL_KEY, "1"), (versions.PROTOCOL_KEY, "2")],
        [(versions.PROTOCOL_KEY, "1"), (versions.RELEASE_KEY, "0.1 \x1b[31m")],
        [(versions.PROTOCOL_KEY, "1"), (versions.RELEASE_KEY, "9" * 40)],
    ],
)
def test_anything_else_is_refused(metadata: list[tuple[str, str | bytes]]) -> None:
    with pytest.raises(WireError, match="fedmedlora-"):
        parse_speaks(metadata)


def test_a_disagreement_names_both_and_the_older_one() -> None:
    old, new = Speaks(1, 2, "0.2.0"), Speaks(3, 4, "0.4.0")
    assert disagreement(site=old, coordinator=new) == (
        "the site speaks protocol 1 to 2 (fedmedlora 0.2.0), the coordinator protocol 3 to 4 "
        "(fedmedlora 0.4.0); they have none in common: upgrade the site"
    )
    assert disagreement(site=new, coordinator=old).endswith("upgrade the coordinator")

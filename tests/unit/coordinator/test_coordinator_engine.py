"""The engine's rules, one by one, with a clock that only moves when a test says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_coordinator.engine import Decision, GiveUp, Go, Situation, Wait, decide
from fedmedlora_coordinator.presence import Presence
from fedmedlora_coordinator.progress import Progress
from fedmedlora_coordinator.settings import Timing

TIMING = Timing(
    grace_seconds=10, ready_grace_seconds=50, abort_seconds=100, step_seconds=200, training_seconds=1000
)
SITES = ("a", "b", "c", "d")


def judge(
    arrived: str, *, connected: str = "", declined: str = "", step: str = "share", now: float = 0
) -> Decision:
    presence = Presence(started=0)
    for site in connected:
        presence.opened(site, 0)
    situation = Situation(step, SITES, tuple(arrived), frozenset(declined), 3, since=0)
    return decide(situation, presence, TIMING, now)


def test_everybody_answered_goes_on_at_once() -> None:
    assert judge("abcd") == Go()


def test_a_connected_site_is_awaited_until_the_steps_time_is_over() -> None:
    assert judge("abc", connected="abcd", now=199) == Wait(200)
    assert judge("abc", connected="abcd", now=200) == Go(without=("d",))


def test_a_site_that_is_away_is_given_up_after_the_grace_time() -> None:
    assert judge("abc", connected="abc", now=9) == Wait(10)
    assert judge("abc", connected="abc", now=10) == Go(without=("d",))


def test_training_has_a_patience_of_its_own() -> None:
    assert judge("abc", connected="abc", step="train", now=49) == Wait(50)
    assert judge("abc", connected="abcd", step="train", now=999) == Wait(1000)


def test_bytes_that_move_buy_time_and_no_more_than_there_is_to_move() -> None:
    # R5.2.4
    progress, presence = Progress(64 << 20), Presence(started=0)
    for site in SITES:
        presence.opened(site, 0)

    def look(now: float) -> Decision:
        earned = {"d": progress.seconds("d")}
        return decide(
            Situation("share", SITES, ("a", "b", "c"), frozenset(), 3, 0, earned), presence, TIMING, now
        )

    assert look(200) == Go(without=("d",))
    progress.moved("d", 1 << 20)
    assert look(200) == Wait(264)
    assert look(264) == Go(without=("d",))
    progress.moved("d", 1 << 40)
    assert look(264) == Wait(200 + 64 * 64)
    progress.begin()
    assert look(264) == Go(without=("d",))


def test_a_site_that_declined_is_not_awaited() -> None:
    assert judge("abc", connected="abcd", declined="d") == Go(without=("d",))


def test_below_the_threshold_the_round_is_given_up_only_after_the_abort_time() -> None:
    assert judge("ab", connected="ab", now=99) == Wait(100)
    assert judge("ab", connected="ab", now=100) == GiveUp()
    assert judge("ab", connected="abc", now=100) == Wait(200)


def test_below_the_threshold_for_good_is_given_up_at_once() -> None:
    assert judge("ab", connected="abcd", declined="cd") == GiveUp()


def test_absence_counts_from_the_last_sign_of_life() -> None:
    presence = Presence(started=0)
    presence.opened("d", 1)
    presence.closed("d", 20)
    situation = Situation("share", SITES, ("a", "b", "c"), frozenset(), 3, since=0)
    assert decide(situation, presence, TIMING, 29) == Wait(30)
    presence.heard("d", 25)
    assert decide(situation, presence, TIMING, 30) == Wait(35)


def test_after_a_restart_everybody_gets_the_whole_grace_time() -> None:
    presence = Presence(started=1000)
    situation = Situation("share", SITES, ("a", "b", "c"), frozenset(), 3, since=1000)
    assert decide(situation, presence, TIMING, 1000) == Wait(1010)


def test_two_streams_of_one_site_count_until_the_last_is_closed() -> None:
    presence = Presence(started=0)
    presence.opened("a", 1)
    presence.opened("a", 2)
    presence.closed("a", 3)
    assert presence.is_connected("a")
    assert presence.connected() == ("a",)
    presence.closed("a", 4)
    assert not presence.is_connected("a")
    assert presence.away_since("a") == pytest.approx(4)


@given(
    arrived=st.sets(st.sampled_from(SITES)),
    connected=st.sets(st.sampled_from(SITES)),
    declined=st.sets(st.sampled_from(SITES)),
    step=st.sampled_from(["train", "share", "unmask"]),
)
def test_every_wait_ends_and_no_round_goes_on_below_the_threshold(
    arrived: set[str], connected: set[str], declined: set[str], step: str
) -> None:
    # R5.2.3
    now, decision = 0.0, None
    for _ in range(20):
        decision = judge(
            "".join(sorted(arrived)),
            connected="".join(sorted(connected)),
            declined="".join(declined),
            step=step,
            now=now,
        )
        if not isinstance(decision, Wait):
            break
        assert decision.until is not None
        assert decision.until > now
        now = decision.until
    assert isinstance(decision, Go) == (len(arrived) >= 3)
    assert isinstance(decision, GiveUp) == (len(arrived) < 3)

"""What the coordinator shows of itself: gauges, live file, alarms; and that looking changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fedmedlora_coordinator import metrics, watching
from fedmedlora_coordinator.errors import StoreUnreachableError
from fedmedlora_coordinator.probes import HealthProbes
from fedmedlora_coordinator.pulse import Pulse, Watched
from fedmedlora_protos.operating import live_file
from fedmedlora_protos.operating.alarms import CERTIFICATE_DAYS, STUCK_SECONDS
from fedmedlora_protos.operating.vitals import Health
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for counter in (metrics.LIMITED, metrics.REFUSED):  # other tests of this process have counted in them
        counter.clear()


def pulse_of(ward: Ward) -> Pulse:
    """A pulse that looks at a ward, by the ward's clock."""
    pulse = Pulse(
        ward.folder,
        Health(lambda: ward.clock.seconds),
        monotonic=lambda: ward.clock.seconds,
        wall=lambda: ward.clock.now().timestamp(),
    )
    pulse.watch(Watched(ward.ledger, ward.store, ward.presence, ward.witnesses, HealthProbes()))
    return pulse


def shown() -> dict[tuple[str, ...], float]:
    """What a scrape gets: name and label values to value; a text that is not Prometheus' own raises."""
    families = text_string_to_metric_families(generate_latest(metrics.REGISTRY).decode())
    return {
        (sample.name.removeprefix("fedmedlora_coordinator_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    made = Ward(tmp_path, rounds=2)
    made.hospital("site-c").refuses.add("share")
    made.run(lambda s: s.session is not None and len(s.session.shares) == 3)
    yield made
    made.store.close()


def test_a_look_says_what_the_law_says(ward: Ward) -> None:
    pulse = pulse_of(ward)
    before = (ward.ledger.size, ward.ledger.checkpoint())
    ward.presence.closed("site-d", ward.clock.seconds)
    pulse.take()
    ward.clock.seconds += 400
    facts = pulse.take()
    found = shown()
    assert (found["round",], found["rounds_planned",], found["members",]) == (1, 2, 4)
    assert (found["step", "share"], found["step", "train"], found["step_seconds",]) == (1, 0, 400)
    assert [found["site_awaited", f"site-{x}"] for x in "abcd"] == [0, 0, 1, 0]
    assert [found["site_connected", f"site-{x}"] for x in "abcd"] == [1, 1, 1, 0]
    assert (found["site_away_seconds", "site-d"], found["site_away_seconds", "site-a"]) == (400, 0)
    assert found["log_entries",] == ward.ledger.size == facts["entries"]
    assert found["log_bytes",] == sum(len(entry.note) for entry in ward.ledger.entries)
    assert (found["head_agrees",], found["ready",]) == (1, 1)
    assert pulse.health.problems() == () and pulse.watched is not None and pulse.watched.probes.ready
    assert before == (ward.ledger.size, ward.ledger.checkpoint())
    names = {alarm[0] for alarm in watching.look(ward.folder.root)["alarms"]}
    assert names == {"SiteAway"}


def test_refusals_and_ends_of_rounds_are_counted_from_the_log(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=2)
    for site in ("site-b", "site-c"):
        ward.hospital(site).refuses.add("share")
    ward.run()
    pulse_of(ward).take()
    found = shown()
    outcomes = {key[1:]: value for key, value in found.items() if key[0] == "rounds" and value}
    assert sum(outcomes.values()) == 2
    assert {outcome for outcome, _ in outcomes} == {"aborted"}
    silent = sum(value for key, value in found.items() if key[0] == "site_silent_steps")
    assert silent == sum(entry.event.type == "delivery.failed" for entry in ward.ledger.entries) > 0
    refused = sum(value for key, value in found.items() if key[0] == "refused_steps")
    assert refused == sum(entry.event.type == "step.refused" for entry in ward.ledger.entries)
    assert "RoundAborted" in {alarm[0] for alarm in watching.look(ward.folder.root)["alarms"]}
    ward.store.close()


def test_a_restart_counts_the_log_once(ward: Ward) -> None:
    pulse = pulse_of(ward)
    first = pulse.take()
    pulse.pause("store")
    assert (pulse.health.problems(), shown()["ready",]) == (("store",), 0)
    pulse.watch(Watched(ward.ledger, ward.store, ward.presence, ward.witnesses, HealthProbes()))
    again = pulse.take()
    for key in ("entries", "log_bytes", "silent_steps", "refused_steps", "outcomes"):
        assert again[key] == first[key]


def test_a_head_that_is_not_the_logs_is_an_alarm(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    pulse = pulse_of(ward)
    ward.folder.head.write_bytes(ward.ledger.checkpoint(5))
    pulse.take()
    pulse.take()
    assert shown()["head_agrees",] == 0
    assert pulse.health.problems() == ("head",)
    assert pulse.watched is not None and not pulse.watched.probes.ready
    told = [getattr(record, "fedmedlora_event", "") for record in caplog.records]
    assert told.count("head_differs") == told.count("not_ready") == 1
    assert "LogAndHeadDisagree" in {alarm[0] for alarm in watching.look(ward.folder.root)["alarms"]}


def test_a_store_that_is_away_is_not_ready(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: object) -> bytes:
        raise StoreUnreachableError("away")

    monkeypatch.setattr(type(ward.store), "last_head", away)
    pulse = pulse_of(ward)
    pulse.take()
    assert pulse.health.problems() == ("store",)


def test_a_clock_behind_the_log_is_not_sane(ward: Ward) -> None:
    pulse = pulse_of(ward)
    pulse.take()
    pulse.wall = lambda: 0.0
    pulse.take()
    assert pulse.health.problems() == ("clock",)


def test_an_error_in_looking_ends_the_looking_and_nothing_else(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Pulse) -> None:
        raise ZeroDivisionError("Mrs. Canary")

    monkeypatch.setattr(Pulse, "take", broken)
    asyncio.run(pulse_of(ward).run())
    assert [getattr(record, "fedmedlora_event", "") for record in caplog.records] == ["watch_failed"]
    assert "Canary" not in caplog.text


def test_a_run_that_is_cancelled_leaves_its_last_look(ward: Ward) -> None:
    async def scene() -> None:
        task = asyncio.create_task(pulse_of(ward).run())
        while not ward.folder.live.exists():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scene())
    left = json.loads(ward.folder.live.read_text())
    assert left["problems"] == ["stopping"] and left["round"] == 1
    assert set(left["certificate_days"]) == {"server", "ca"}
    found = watching.look(ward.folder.root)
    assert (found["running"], found["connected"], found["entries"]) == (False, [], ward.ledger.size)
    assert "ProcessDown" in {alarm[0] for alarm in found["alarms"]}
    assert watching.health(ward.folder.root) == ["stopping"]


BASE: dict[str, Any] = {
    "study": "s", "run_closed": False, "running": True, "step": "upload", "step_seconds": 10.0, "aborted": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "alarms"),
    [
        ({}, []),
        ({"running": False}, ["ProcessDown"]),
        ({"running": False, "run_closed": True}, []),
        ({"step_seconds": STUCK_SECONDS + 1}, ["RoundStuck"]),
        ({"step_seconds": STUCK_SECONDS + 1, "step": "train"}, []),
        ({"away_seconds": {"site-b": 301.0, "site-a": 0.0}}, ["SiteAway"]),
        ({"away_seconds": {"site-b": 301.0}, "run_closed": True}, []),
        ({"aborted": 2, "aborted_reasons": {"refused": 2}}, ["RoundAborted"]),
        ({"refused_steps": {"policy": 1}}, ["StepRefused"]),
        ({"refused_steps": {"log_forked": 1}}, ["LogAndHeadDisagree"]),
        ({"head_agrees": False}, ["LogAndHeadDisagree"]),
        ({"limited_calls": {"rate": 3}}, ["LimitsHit"]),
        ({"refused_calls": {"too_many": 1, "unknown_blob": 7}}, ["LimitsHit"]),
        ({"refused_calls": {"unknown_blob": 7}}, []),
        ({"store_write_ms": 251.0}, ["StoreSlow"]),
        ({"disk_free_bytes": 9, "disk_total_bytes": 100}, ["DiskNearlyFull"]),
        ({"disk_free_bytes": 11, "disk_total_bytes": 100}, []),
        ({"certificate_days": {"server": CERTIFICATE_DAYS - 1}}, ["CertificateEndsSoon"]),
        ({"clock_jumps": 1}, ["ClockJumped"]),
        ({"problems": ["disk_full"]}, ["NotReady"]),
        ({"study": None}, []),
    ],
)
def test_what_is_alarming(facts: dict[str, Any], alarms: list[str]) -> None:
    assert [alarm.name for alarm in watching.alarms({**BASE, **facts})] == alarms


def test_limits_are_counted_by_a_closed_list() -> None:
    metrics.limited("rate")
    metrics.limited("Mrs. Canary")
    found = shown()
    assert found["limited_calls_total", "rate"] == found["limited_calls_total", "other"] == 1


def test_status_before_a_study_has_no_alarms(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    ward.store.close()
    found = watching.joined({"study": None, "serving": False}, None)
    assert (found["alarms"], found["running"]) == ([], False)
    assert watching.health(ward.folder.root) == ["not_running"]
    live_file.write_live(ward.folder.live, {"problems": []})
    assert watching.health(ward.folder.root) == []

"""Four hospitals, real processes: one changes its keys, one leaves, the study ends, a reviewer judges."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from fedmedlora_audit.checkpoint import Checkpoint
from fedmedlora_audit.event_data import KeyRotated, RunOpened
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.reports import export_bundle, status
from fedmedlora_coordinator.settings import Timing
from fedmedlora_core.adapter import Adapter
from fedmedlora_site import reports
from fedmedlora_site.key_ring import NEXT
from fedmedlora_testkit.rehearsal import Federation, finish

PATIENT = Timing(
    grace_seconds=1.0, ready_grace_seconds=2.0, abort_seconds=40.0, step_seconds=40.0, training_seconds=60.0
)


def until_logged(federation: Federation, line: str, seconds: float = 60.0) -> None:
    """Wait until the coordinator has reported an event."""
    path, deadline = federation.root / "coordinator.log", time.monotonic() + seconds
    while line not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.05)


def command(federation: Federation, site: str, *words: str) -> str:
    """Run an operator's command on a site's folder."""
    called = [
        sys.executable,
        "-m",
        "fedmedlora_cli",
        "site",
        *words,
        "--dir",
        str(federation.site_root(site)),
    ]
    done = subprocess.run(called, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_changes_its_keys_and_one_leaves(tmp_path: Path) -> None:
    # R2.5.1, R2.5.5, R2.5.6
    federation = Federation.build(tmp_path, rounds=3, timing=PATIENT, changes={"audit": {"quorum": True}})
    old = (federation.site_root("site-a") / "keys" / "event.seed").read_bytes()
    centre = federation.coordinator()
    agents = {site: federation.site(site) for site in federation.ids}
    until_logged(federation, '"event": "round.closed", "actor": "coordinator", "round": 1')
    for site in ("site-a", "site-d"):  # the two others are fewer than the threshold: no round ends now
        agents[site].send_signal(signal.SIGTERM)
        finish(agents[site])
    assert "the event key in use is" in command(federation, "site-a", "rotate-keys", "--witness")
    assert "3 members remain" in command(federation, "site-d", "leave")
    keys = federation.site_root("site-a") / "keys"
    assert (keys / "event.seed").read_bytes() != old
    assert not list(keys.glob("*" + NEXT))
    agents["site-a"] = federation.site("site-a")
    assert {site: finish(agents[site]) for site in ("site-a", "site-b", "site-c")} == dict.fromkeys(
        ("site-a", "site-b", "site-c"), 0
    )
    assert finish(centre) == 0
    assert finish(federation.site("site-d")) == 0, "its agent has nothing left to do"
    found = status(federation.coordinator_root)
    assert (found["left"], found["keys_changed"], found["run_closed"]) == (["site-d"], ["site-a"], True)
    assert found["closed"] in (2, 3)

    reports.write_trust(federation.site_root("site-b"), tmp_path / "trust.json")
    trust = Trust.load(tmp_path / "trust.json")
    reports.export_bundle(federation.site_root("site-a"), tmp_path / "mirror")
    mirrored = verify_bundle(tmp_path / "mirror", trust)
    assert mirrored.exporter == "site-a", "its manifest is signed with the new key"
    assert mirrored.checks["B1"].result == "pass"
    reports.export_bundle(federation.site_root("site-b"), tmp_path / "always-there")
    kept = verify_bundle(tmp_path / "always-there", trust, federation.root)
    assert (kept.verdict, kept.findings) == ("pass", ()), "who was there needs no coordinator to be judged"
    assert kept.checks["U1"].result == "pass", "nothing was opened without a quorum"
    export_bundle(federation.coordinator_root, tmp_path / "bundle")
    verdict = verify_bundle(tmp_path / "bundle", trust, federation.root)
    assert (verdict.verdict, verdict.findings) == ("pass", ())
    assert (verdict.checks["K2"].count, verdict.checks["K3"].count) == (2, 4)
    changed = [e.index for e in verdict.entries if isinstance(e.event.data, KeyRotated)]
    by = {e.event.actor.key for e in verdict.entries if e.event.actor.id == "site-a" and e.index > changed[0]}
    assert len(by) == 1
    assert by != {verdict.entries[changed[0]].event.actor.key}
    head = verdict.witnesses.heads[verdict.witnesses.covered]
    assert set(head.times) == {"site-a", "site-b", "site-c"}
    goes_on(federation, head.checkpoint)


def goes_on(old: Federation, head: Checkpoint) -> None:
    """A new charter: one hospital fewer, one more, new keys for all; the adapter goes on."""
    # R2.5.8
    adapter = Adapter.load(old.coordinator_root / "released")
    ids = ("site-a", "site-b", "site-c", "site-e")
    before = {"origin": head.origin, "size": head.size, "root": head.root.hex()}
    federation = Federation.build(
        old.root / "next",
        name="next.example",
        ids=ids,
        rounds=1,
        adapter=adapter,
        changes={"audit": {"quorum": True}, "log": {"predecessor": before}},
    )
    assert old.study.member_ids != federation.study.member_ids
    old_keys = {member.event_vkey for member in old.study.members}
    assert not old_keys & {member.event_vkey for member in federation.study.members}
    centre = federation.coordinator()
    agents = [federation.site(site) for site in ids]
    assert [finish(agent) for agent in agents] == [0] * 4
    assert finish(centre) == 0
    export_bundle(federation.coordinator_root, old.root / "next-bundle")
    reports.write_trust(federation.site_root("site-e"), old.root / "next.json")
    verdict = verify_bundle(old.root / "next-bundle", Trust.load(old.root / "next.json"))
    assert verdict.verdict == "pass"
    opened = next(e.event.data for e in verdict.entries if isinstance(e.event.data, RunOpened))
    assert opened.base == adapter.digest

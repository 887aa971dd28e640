"""Every attack of a malicious coordinator against a real agent: refused, refused again behind the law, and
successful with the checks that stand against it taken out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fedmedlora_audit import law
from fedmedlora_site import mirror as mirror_module
from fedmedlora_testkit.adversary import LOG_ATTACKS, LogAttack
from fedmedlora_testkit.adversary.villain import Villain

BY_LAW = [name for name, entry in LOG_ATTACKS.items() if entry.law is not None]
BY_SITE = [name for name, entry in LOG_ATTACKS.items() if entry.own is not None]


def played(root: Path, entry: LogAttack) -> tuple[Villain, bool]:
    """Play an attack; returns the stage and whether it got its aim."""

    async def act() -> tuple[Villain, bool]:
        stage = Villain(root)
        try:
            stage.start()
            await entry.play(stage)
            return stage, entry.aim(stage)
        finally:
            await stage.stop()

    return asyncio.run(act())


def lift(monkeypatch: pytest.MonkeyPatch, entry: LogAttack) -> None:
    """Take the attack's own checks out."""
    for target, name, replacement in entry.without:
        monkeypatch.setattr(target, name, replacement)


@pytest.mark.parametrize("name", BY_LAW)
def test_attack_in_the_log_is_refused_by_its_check_and_the_journal_knew_first(
    tmp_path: Path, name: str
) -> None:
    entry = LOG_ATTACKS[name]
    stage, succeeded = played(tmp_path, entry)
    assert not succeeded
    (refusal,) = stage.journal()
    assert refusal.reason == "log_forked"
    assert f" {entry.law}:" in refusal.sentence
    assert stage.journalled == [True]
    assert stage.signed("step.refused", reason="log_forked")


@pytest.mark.parametrize("name", BY_SITE)
def test_attack_behind_the_law_is_refused_by_the_site_itself_with_its_own_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    entry = LOG_ATTACKS[name]
    monkeypatch.setattr(mirror_module, "apply", law.fold)
    stage, succeeded = played(tmp_path, entry)
    assert not succeeded
    assert [(row.step, row.reason) for row in stage.journal()] == [entry.own]
    assert stage.journalled == [True]
    assert entry.own is not None
    assert stage.signed("step.refused", step=entry.own[0], reason=entry.own[1])


@pytest.mark.parametrize("name", LOG_ATTACKS)
def test_attack_succeeds_without_its_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    entry = LOG_ATTACKS[name]
    if entry.law is not None:
        monkeypatch.setattr(mirror_module, "apply", law.fold)
    lift(monkeypatch, entry)
    stage, succeeded = played(tmp_path, entry)
    assert succeeded
    assert stage.journal() == []

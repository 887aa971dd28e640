"""What `site status` shows: what the folder says, what the agent says, the budget, and what is alarming."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fedmedlora_core.policy import SitePolicy
from fedmedlora_protos.operating.alarms import AWAY_SECONDS, BUDGET_SHARE, Alarm, vital_alarms
from fedmedlora_protos.operating.live_file import ailments, is_running, read_live
from fedmedlora_site.acceptance import load_accepted
from fedmedlora_site.budget import budget_of
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.journal import Journal
from fedmedlora_site.metrics import TRAINER_REASONS
from fedmedlora_site.reports import status

_LIVE_ONLY: Final = (
    "connected", "connections", "away_seconds", "waiting_for", "training_round", "training_tenths",
    "training_short_of_memory", "traffic", "disk_free_bytes", "disk_total_bytes", "certificate_days",
    "clock_jumps", "problems",
)  # fmt: skip


def look(root: Path) -> dict[str, Any]:
    """Read everything once: flat, for people and for scripts.

    Args:
        root: The site's folder; an agent may be at work on it.

    Raises:
        FolderError: The folder is not a site's, or is damaged.
    """
    return joined(folder_facts(root), live(root))


def folder_facts(root: Path) -> dict[str, Any]:
    """Read what the folder says: study, log, refusals by reason, budget; nothing of notes or sizes."""
    folder, found = SiteFolder.open(root), status(root)
    accepted = load_accepted(folder)[0] if folder.charter.is_file() else None
    policy = SitePolicy.load(folder.policy).privacy
    budget = budget_of(folder, SiteConfig.load(folder.config), policy, accepted)
    return {**found, "refused_steps": Journal(folder.journal).reasons(), **budget.facts()}


def live(root: Path) -> dict[str, Any] | None:
    """Read what the agent said last; None if none ever did."""
    return read_live(SiteFolder(root).live)


def health(root: Path) -> list[str]:
    """Return why the agent is not well; nothing when it is.

    Raises:
        FolderError: The folder is not a site's.
    """
    return ailments(SiteFolder.open(root).live)


def joined(found: Mapping[str, Any], said: Mapping[str, Any] | None) -> dict[str, Any]:
    """Put what an agent said beside what the folder says; without one, what it said last.

    Args:
        found: `folder_facts`.
        said: The live file.
    """
    running = is_running(said)
    known = {key: said[key] for key in _LIVE_ONLY if said is not None and key in said}
    if not running:
        known |= {"connected": False, "waiting_for": [], "problems": []}
        known.pop("away_seconds", None)
    merged = {**found, **known, "running": running}
    if running and said is not None:  # newer than the folder was read
        merged |= {"step": said["step"], "log_size": said["entries"], "rounds_closed": said["rounds_closed"]}
    return {**merged, "alarms": [[alarm.name, alarm.sentence] for alarm in alarms(merged)]}


def alarms(facts: Mapping[str, Any]) -> list[Alarm]:
    """Return what this hospital's operator should look at now, worst first."""
    if facts.get("study") is None:
        return vital_alarms(facts)
    reasons, going = facts["refused_steps"], not facts["run_closed"]
    found = []
    if reasons.get("log_forked"):
        found.append(Alarm("LogAndHeadDisagree", "the log contradicts itself or the law; run/journal.jsonl"))
    if facts["ledger"] == "damaged":
        found.append(Alarm("LedgerDamaged", "the privacy ledger was changed or is shorter than it was"))
    if going and not facts["running"]:
        found.append(Alarm("ProcessDown", "no agent runs on this folder, and the study is not closed"))
    if going and facts.get("away_seconds", 0.0) > AWAY_SECONDS:
        minutes = facts["away_seconds"] / 60
        found.append(Alarm("CoordinatorAway", f"the coordinator has been away for {minutes:.0f} minutes"))
    if facts["running"] and facts.get("training_short_of_memory"):
        found.append(
            Alarm("TrainerFailed", "the training lacks memory and waits for more; the log says what helps")
        )
    failed = sum(count for reason, count in reasons.items() if reason in TRAINER_REASONS)
    if failed:
        found.append(Alarm("TrainerFailed", f"{failed} times; run/trainer.log and run/journal.jsonl say why"))
    others = {r: n for r, n in reasons.items() if r not in TRAINER_REASONS and r != "log_forked"}
    if others:
        found.append(Alarm("StepRefused", ", ".join(f"{n} {reason}" for reason, n in others.items())))
    return [*found, *_budget_alarms(facts), *vital_alarms(facts)]


def _budget_alarms(facts: Mapping[str, Any]) -> list[Alarm]:
    found = []
    for whose, prefix in (("the hospital's", "budget"), ("the study's", "study_budget")):
        spent, limit = facts[f"{prefix}_spent_milli"], facts[f"{prefix}_limit_milli"]
        if spent is not None and limit and spent >= BUDGET_SHARE * limit:
            figures = f"epsilon {spent / 1000:.3f} of {limit / 1000:.3f} is spent"
            found.append(Alarm("BudgetNearlySpent", f"{whose} budget: {figures}"))
    return found

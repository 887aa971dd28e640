"""Alerts, dashboard, code and docs name the same metrics, alarms and log events."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry

from fedmedlora_coordinator import metrics as coordinator_metrics
from fedmedlora_protos.operating.alarms import Name
from fedmedlora_protos.operating.logbook import CATALOGUE
from fedmedlora_site import metrics as site_metrics
from fedmedlora_testkit.repository import ROOT

OPERATIONS = (ROOT / "docs/OPERATIONS.md").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/fedmedlora.json").read_text(encoding="utf-8"))
NAMED = re.compile(r"\bfedmedlora_[a-z_]+\b")


def alert_rules() -> list[dict[str, Any]]:
    """Every rule of the file of alerts."""
    yaml: Any = importlib.import_module("yaml")  # comes with transformers
    text = (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    """Every expression of alerts and dashboard."""
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    shown = [target["expr"] for panel in panels for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in alert_rules())]


def series(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Name of every series that a registry shows to its labels."""
    found: dict[str, set[str]] = {}
    for collector in registry._collector_to_names:  # the library has no other list of names
        labels = set(getattr(collector, "_labelnames", ()))
        for name in registry._collector_to_names[collector]:
            found[name] = labels
    return found


KNOWN = series(coordinator_metrics.REGISTRY) | series(site_metrics.REGISTRY)


def base_of(name: str) -> str:
    return re.sub(r"_(total|bucket|count|sum)$", "", name)


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_metrics_and_labels_that_exist(expression: str) -> None:
    names = NAMED.findall(expression)
    assert names or "process_" in expression or expression.startswith("up{")
    assert not [name for name in names if name not in KNOWN]
    for name, matchers in re.findall(r"(fedmedlora_[a-z_]+)\{([^}]*)\}", expression):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels <= KNOWN[name] | {"job"}, expression
    for pair in ("()", "{}", "[]"):
        assert expression.count(pair[0]) == expression.count(pair[1])


def test_every_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    named = {base_of(name) for text in expressions() for name in NAMED.findall(text)}
    ours = {base_of(name) for name in KNOWN if name.startswith("fedmedlora_")}
    ours = {name.removesuffix("_created") for name in ours}
    assert len(ours) > 50
    assert not ours - named


def test_a_metric_that_does_not_exist_would_be_found() -> None:
    assert "fedmedlora_site_loss" not in KNOWN and "fedmedlora_site_ready" in KNOWN


def test_alarms_alerts_and_headings_are_the_same() -> None:
    names = set(get_args(Name))
    assert {rule["alert"] for rule in alert_rules()} == names
    section = OPERATIONS.split("\n## Alarms\n", 1)[1].split("\n## ", 1)[0]
    headings = re.findall(r"^### (\w+)$", section, re.MULTILINE)
    assert sorted(headings) == sorted(names)
    for text in re.split(r"^### \w+$", section, flags=re.MULTILINE)[1:]:
        assert len(text.split()) > 15  # says what to do


def test_every_alert_says_where_to_read_on() -> None:
    for rule in alert_rules():
        assert rule["annotations"]["runbook"] == f"docs/OPERATIONS.md, {rule['alert']}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_log_events_are_documented() -> None:
    section = OPERATIONS.split("\n### Logs\n", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == CATALOGUE.keys()


def test_the_documented_metrics_are_the_real_ones() -> None:
    section = OPERATIONS.split("\n### Metrics\n", 1)[1].split("\n### ", 1)[0]
    documented = set(re.findall(r"`(fedmedlora_[a-z_]+)`", section))
    ours = {name for name in KNOWN if name.startswith("fedmedlora_") and not name.endswith("_created")}
    written = {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours}
    bare = {name for name in written if f"{name}_total" in written}
    assert documented == written - bare


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])

"""docs/RESULTS.md is what the committed results give, and its commands exist."""

from __future__ import annotations

import re
import shlex

from fedmedlora_bench import results_page
from fedmedlora_bench.ie.scenarios import SCENARIOS
from fedmedlora_testkit.commands import commands
from fedmedlora_testkit.repository import ROOT

PAGE = ROOT / "docs/RESULTS.md"


def test_the_page_is_that_of_the_committed_results() -> None:
    fresh = results_page.render(ROOT / "docs/results")
    assert PAGE.read_text(encoding="utf-8") == fresh, "run python -m fedmedlora_bench.results_page"


def test_its_commands_and_scenarios_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    real = commands()
    shown = re.findall(r"^fedmedlora .*$", text.replace("\\\n", " "), re.MULTILINE)
    assert shown
    for line in shown:
        words = shlex.split(line)
        assert " ".join(words[1:3]) in real
    assert {headline.scenario for headline in results_page.HEADLINES} - {""} <= SCENARIOS.keys()

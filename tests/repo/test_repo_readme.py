"""The README says what the program says: help text, table of results, commands and make targets."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from fedmedlora_bench import readme_table
from fedmedlora_cli.__main__ import main
from fedmedlora_testkit.repository import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "docs/results/demo.json"


def part(name: str) -> str:
    """Text between the markers of one generated part."""
    return README.split(f"<!-- {name}:begin -->\n")[1].split(f"\n<!-- {name}:end -->")[0]


def test_the_help_text_is_the_programs() -> None:
    assert part("help") == readme_table.render_help(), "run python -m fedmedlora_bench.readme_table"


def test_the_results_are_those_of_the_committed_run() -> None:
    if not RESULTS.is_file():
        pytest.skip("no demo result is committed (docs/results/demo.json)")
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert part("results") == readme_table.render_results(result)


def test_a_stale_part_is_noticed_and_made_fresh(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(readme_table.replace_part(README, "help", "stale"), encoding="utf-8")
    arguments = ["--readme", str(readme), "--results", str(RESULTS)]
    assert readme_table.main([*arguments, "--check"]) == 1
    assert readme_table.main(arguments) == 0
    assert readme_table.main([*arguments, "--check"]) == 0


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        readme_table.replace_part("nothing here", "help", "")


def test_the_table_names_what_was_not_measured() -> None:
    result = {
        "study": {"seed": 7, "rounds": 2},
        "security": {"sites": 4, "threshold": 3},
        "model": {"parameters": 1000, "adapter_parameters": 10},
        "communication": {"bytes_up_per_site_round": 2_000_000},
        "audit": {"verdict": "pass", "events": 12},
        "versions": {"python": "3.11", "torch": "2"},
        "seconds": {"total": 1.5},
        "systems": {"federated": {"ner": {"strict_f1": 0.5, "lenient_f1": 0.25}}},
    }
    rendered = readme_table.render_results(result)
    assert "| federated | 0.500 | 0.250 | - | - | - |" in rendered
    assert "untuned" not in rendered


def shown_commands() -> list[list[str]]:
    """Every `fedmedlora …` command line in the README's code blocks, without its arguments' values."""
    found = []
    for block in re.findall(r"```(?:bash|sh)\n(.*?)```", README, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip().startswith("fedmedlora "):
                found.append(shlex.split(line, comments=True)[1:])
    return found


def names_of(command: list[str]) -> list[str]:
    """The words of a command that name it: up to two, before arguments and options."""
    grouped = {"coordinator", "site", "study", "audit", "bench"}
    return command[:2] if command[0] in grouped else command[:1]


@pytest.mark.parametrize("name", sorted({" ".join(names_of(c)) for c in shown_commands()}))
def test_every_shown_command_and_option_exists(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    options = {w.split("=")[0] for c in shown_commands() if " ".join(names_of(c)) == name for w in c}
    assert not [option for option in options if option.startswith("--") and option not in said]


def test_the_make_targets_that_the_readme_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", README, re.MULTILINE))
    targets = {first or second for first, second in named}
    assert {"demo", "test"} <= targets
    assert not [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)]


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text(encoding="utf-8")

"""What docs/ says about commands and settings is what the code has."""

from __future__ import annotations

import re
import tomllib

from fedmedlora_coordinator.settings import CoordinatorSettings, Evidence, Limits, Store, Timing
from fedmedlora_core.config import parse_table
from fedmedlora_core.labels import CLINICAL
from fedmedlora_core.mapping import LabelMapping, mapping_names
from fedmedlora_core.near_duplicates import THRESHOLD
from fedmedlora_core.policy import SitePolicy
from fedmedlora_core.records import note_from_json, validate_note
from fedmedlora_core.sources import FORMATS
from fedmedlora_site.config import PerformanceSection, TrainerSection
from fedmedlora_site.enrolment import _POLICY_TEXT
from fedmedlora_testkit.commands import commands
from fedmedlora_testkit.repository import ROOT

IMPORTING = (ROOT / "docs/IMPORTING.md").read_text(encoding="utf-8")
BYTES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def table_rows(document: str, heading: str) -> list[list[str]]:
    """Cells of the rows of a document's tables under one heading."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]


def documented_commands() -> set[str]:
    """Every command of the table in docs/INTERFACES.md."""
    found = set()
    for cell, *_ in table_rows("INTERFACES.md", "Commands")[2:]:
        first, *further = re.findall(r"`([^`]+)`", cell)
        words = first.removeprefix("fedmedlora ").split()
        found |= {" ".join(words), *(f"{words[0]} {name}" for name in further)}
    return found


def test_the_documented_commands_are_the_real_ones() -> None:
    assert documented_commands() == commands().keys()


def test_the_documented_settings_have_the_real_defaults() -> None:
    sections = {
        "timing": Timing(), "limits": Limits(), "evidence": Evidence(), "store": Store(),
        "trainer": TrainerSection(), "performance": PerformanceSection(),
    }  # fmt: skip
    found = {}
    for row in table_rows("OPERATIONS.md", "Settings"):
        match = re.fullmatch(r"`(\w+)\.(\w+)`", row[0])
        if match and match[1] in sections:
            found[match.groups()] = row[1].strip("`")
    for (section, key), said in found.items():
        number, _, unit = said.partition(" ")
        real = getattr(sections[section], key)
        word = {"empty": "", "true": True, "false": False}.get(said, said)
        assert (int(number) * BYTES.get(unit, 1) if number.isdigit() else word) == real, key
    documented = {key for section, key in found if section in CoordinatorSettings.model_fields}
    assert documented == {k for part in (Timing, Limits, Evidence, Store) for k in part.model_fields}


def test_the_policy_file_that_enrolment_writes_shows_the_real_defaults() -> None:
    keys, table = (
        re.findall(r"^# (\w+) = (\S+)", part, re.MULTILINE) for part in _POLICY_TEXT.split("# [privacy]")
    )
    defaults = SitePolicy().model_dump(exclude={"privacy"})
    budget = SitePolicy().privacy.model_dump()
    assert budget.pop("epsilon_milli") is None and dict(table).pop("epsilon_milli").isdigit()
    for shown, real in ((dict(keys), defaults), (dict(table), budget)):
        assert set(shown) - {"epsilon_milli"} == set(real)
        for key, value in real.items():
            expected = str(value).lower() if isinstance(value, bool) else str(value).replace("()", "[]")
            expected = f'"{value}"' if isinstance(value, str) else expected
            assert shown[key] == expected, key
    uncommented = "\n".join(line.removeprefix("# ") for line in _POLICY_TEXT.splitlines()[1:])
    assert parse_table(tomllib.loads(uncommented), SitePolicy, name="policy").privacy.epsilon_milli == 8000


def test_the_formats_and_mappings_for_importing_are_the_real_ones() -> None:
    rows = table_rows("IMPORTING.md", "Formats")[2:]
    assert {row[0].strip("`") for row in rows} == FORMATS.keys()
    shipped = IMPORTING.split("Shipped mappings can be named instead of a file: ", 1)[1].split(". ", 1)[0]
    assert tuple(re.findall(r"`([^`]+)`", shipped)) == mapping_names()
    assert f"Jaccard index of at least {THRESHOLD}" in IMPORTING


def test_the_examples_for_importing_can_be_read() -> None:
    example = IMPORTING.split("```toml\n", 1)[1].split("```", 1)[0]
    mapping = parse_table(tomllib.loads(example), LabelMapping, name="docs/IMPORTING.md")
    assert mapping.relations["Medication:Dose"] == "first" and mapping.patient_of("12-3") == "12"
    assert mapping.labels_annotated <= CLINICAL.annotatable
    line = IMPORTING.split("```json\n", 1)[1].split("```", 1)[0].replace("\n", " ")
    validate_note(note_from_json(line))

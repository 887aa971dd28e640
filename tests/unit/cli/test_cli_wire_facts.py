"""What `study new` and `study check` say of a charter's width on the wire."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedmedlora_cli.study_commands import app
from fedmedlora_cli.wire_facts import wire_facts, wire_lines
from fedmedlora_core.errors import ConfigError
from fedmedlora_testkit.studies import make_study


def test_the_choice_is_shown_with_its_head_room(tmp_path: Path) -> None:
    # R4.5.3
    study = make_study(dimension=1_000_000)
    study.write(tmp_path / "study.toml")
    shown = CliRunner().invoke(app, ["check", str(tmp_path / "study.toml")])
    assert shown.exit_code == 0
    assert "wire: 24 bits a value" in shown.output
    assert "bits of head-room; 3.000 bytes a value, 3.00 MB an update" in shown.output
    target = tmp_path / "facts.json"
    done = CliRunner().invoke(app, ["check", str(tmp_path / "study.toml"), "--json", str(target)])
    assert done.exit_code == 0
    facts = json.loads(target.read_text())
    assert facts["wire_bits"] == 24
    assert facts["upload_bytes"] == study.packing().total_bytes
    assert facts["bytes_per_value"] < 3.0001
    codec, n = study.codec(), len(study.members)
    assert n * 2 ** (facts["value_bits"] + facts["head_room_bits"]) == pytest.approx(codec.half, rel=0.01)
    assert facts["error_bound"] == codec.error_bound(weight_sum=facts["expected_weight"] * n, m=n)


def test_a_study_may_fix_the_width_and_a_width_that_does_not_fit_is_refused() -> None:
    wide = make_study(dimension=1000, overrides={"secure_aggregation__wire_bits": 32})
    narrow = make_study(dimension=1000)
    assert wire_facts(wide)["bytes_per_value"] == pytest.approx(4.008)
    assert wire_facts(wide)["error_bound"] < wire_facts(narrow)["error_bound"] / 200
    assert len(wire_lines(wide)) == 2
    with pytest.raises(ConfigError, match="does not fit the ring of 16 bits"):
        make_study(dimension=1000, overrides={"secure_aggregation__wire_bits": 16})

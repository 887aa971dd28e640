"""`bench report`: one page, self-contained, of whatever the benchmarks wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_bench.report import write_report
from fedmedlora_bench.report.sections import section_of
from fedmedlora_cli.__main__ import main
from fedmedlora_core.errors import ConfigError

SIDE = {
    role: {
        "wall": dict.fromkeys(parts, 0.5) | {"total": 1.0},
        "cpu": dict.fromkeys(parts, 0.5) | {"total": 1.5},
    }
    for role, parts in {"client": ("encode", "masks"), "coordinator": ("accumulate", "unmask")}.items()
}
SECAGG: dict[str, Any] = {
    "schema": "fedmedlora-bench-secagg/1",
    "params": 1000, "sites": 8, "dropped": 1, "threshold": 6, "wire_bits": 32, "threads": 2,
    "suite": "xwing-aes256ctr/2", "peer": "flwr", "repeats": 3,
    "client_wall_ratio": 1.0, "client_cpu_ratio": 1.0,
    "coordinator_wall_ratio": 1.0, "coordinator_cpu_ratio": 1.0,
    "upload_bytes_per_value": 4.0, "peer_upload_bytes_per_value": 8.0, "mask_over_raw_aes_ratio": 1.2,
    "hash_check_seconds": 0.2,
    "seconds": {"ours": SIDE, "peer": SIDE},
    "memory": {"site": {"vectors": 3.0}, "coordinator": {"vectors": 2.0}},
    "max_error": 1e-9, "peer_max_error": 1e-8, "error_bound": 2e-9,
    "key_agreement": {
        "hybrid": {"keys_seconds": 0.1, "shares_seconds": 0.1, "keys_bytes": 10, "shares_bytes": 20}
    },
    "versions": {"ours": {"python": "3.11"}, "peer": {"flwr": "1.0"}},
    "machine": {"cores": 2, "cpu": "a processor"},
}  # fmt: skip
SIMULATE = {
    "dimension": 100_000,
    "growth": [
        {
            "sites": sites,
            "site": {"seconds": {"mean": sites / 1000, "max": sites}, "steps": {"share": {"mean": 1.0}}},
            "coordinator": {"seconds": sites / 100},
        }
        for sites in (1000, 10, 100)
    ],
}
CKKS = {
    "rows": [
        {"way": way, "sites": 4, "values": values, "site_seconds": 1.5, "trusted": "<b>nobody</b>"}
        for values in (1_300_000, 11_300_000)
        for way in ("masks", "ckks")
    ]
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one result of each kind."""
    made = tmp_path / "results"
    made.mkdir()
    for name, result in (("secagg", SECAGG), ("simulate", SIMULATE), ("ckks", CKKS)):
        (made / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
    return made


def test_the_page_holds_everything_and_asks_for_nothing(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert write_report(folder, page) == ["ckks", "secagg", "simulate"]
    text = page.read_text(encoding="utf-8")
    assert text.count('<img src="data:image/svg+xml;base64,') == 3
    assert not re.search(r"https?://|<script|<link", text)
    for figure in ("client, wall clock", "1,300,000", "coordinator seconds", "Flower SecAgg+"):
        assert figure in text


def test_what_a_result_says_is_escaped(folder: Path, tmp_path: Path) -> None:
    write_report(folder, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;nobody" in text and "<b>nobody" not in text


def test_the_same_results_give_the_same_page(folder: Path, tmp_path: Path) -> None:
    for name in ("first.html", "second.html"):
        write_report(folder, tmp_path / name)
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "second.html").read_bytes()


def test_growth_is_plotted_along_the_sites_in_order() -> None:
    section = section_of("simulate", SIMULATE)
    lines = section.plots[0].figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["site seconds mean", "coordinator seconds"]
    assert np.asarray(lines[0].get_xdata()).tolist() == [10, 100, 1000]


def test_single_steps_are_left_to_the_file() -> None:
    head = section_of("simulate", SIMULATE).grids[0].head
    assert head == ("sites", "site seconds mean", "site seconds max", "coordinator seconds")


def test_few_objects_with_many_keys_stand_side_by_side() -> None:
    rows = [{"sites": n} | {f"figure_{i}": n * i for i in range(12)} for n in (10, 100)]
    grid = section_of("wide", {"rows": rows}).grids[0]
    assert grid.head == ("sites", "10", "100")
    assert grid.rows[2] == ("figure 2", "20", "200")


def test_methods_of_one_size_stand_beside_each_other() -> None:
    axes = section_of("ckks", CKKS).plots[0].figure.axes
    assert [one.get_title(loc="left") for one in axes] == ["1,300,000 values", "11,300,000 values"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["masks", "ckks"]


def test_a_result_of_another_kind_is_shown_as_facts() -> None:
    section = section_of("other", {"answer": 42, "deep": {"yes": True, "none": None}, "words": ["a"]})
    assert section.grids[0].rows == (("answer", "42"), ("deep yes", "yes"), ("deep none", "-"))
    assert not section.plots


def test_the_command_writes_the_page_and_its_plots(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "bench",
                "report",
                str(folder),
                "--out",
                str(tmp_path / "r.html"),
                "--plots",
                str(tmp_path / "p"),
            ]
        )
    assert stopped.value.code == 0
    files = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert files == sorted(
        f"{n}.{kind}" for n in ("ckks-rows", "secagg-parts", "simulate-growth") for kind in ("png", "svg")
    )
    assert (tmp_path / "p/secagg-parts.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not JSON"), ("[]", "a JSON object"), ('{"schema": "fedmedlora-bench-secagg/1"}', "not what")],
)
def test_a_file_that_is_no_result_is_refused_by_name(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"bad\.json: .*{said}"):
        write_report(tmp_path, tmp_path / "report.html")


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no JSON files"):
        write_report(tmp_path, tmp_path / "report.html")

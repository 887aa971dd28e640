"""`bench secagg`: a measured round is a right round, and its figures say what they are of."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_bench import cost_tables
from fedmedlora_bench.secagg import memory
from fedmedlora_bench.secagg.case import Case
from fedmedlora_bench.secagg.children import PEER_SCRIPT, Child, MeasurementError
from fedmedlora_bench.secagg.ours import play_round, raw_aes_seconds
from fedmedlora_bench.secagg.rows import PARTS, beside_rows, columns, conditions, cost_rows, seconds
from fedmedlora_bench.secagg.run import PEER_ENVIRONMENT, Peer, run_secagg
from fedmedlora_bench.secagg.stopwatch import median_parts
from fedmedlora_bench.secagg.suite_cost import suite_cost
from fedmedlora_cli.__main__ import main
from fedmedlora_core.errors import CodecError, ConfigError
from fedmedlora_testkit.repository import ROOT, imported_roots, parsed

TINY = Case(params=1500, sites=4, drop=1, threads=2)
PEER_PYTHON = ROOT / PEER_ENVIRONMENT / "bin" / "python"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A tiny case whose updates are drawn."""
    drawn = replace(TINY, folder=str(tmp_path))
    drawn.draw_updates()
    return drawn


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """A whole measurement of our side alone, by way of its child processes."""
    return run_secagg(TINY, repeats=2, peer=None, progress=False)


def beside_peer(result: dict[str, Any], factor: float) -> dict[str, Any]:
    """The same result beside a peer that takes `factor` times as long for everything."""
    peer = {
        role: {kind: {part: s * factor for part, s in parts.items()} for kind, parts in kinds.items()}
        for role, kinds in result["seconds"]["ours"].items()
    }
    ratios = {key: factor for key in result if key.endswith(("wall_ratio", "cpu_ratio"))}
    extra = {"peer": "flwr", "peer_upload_bytes_per_value": 8.0, "peer_max_error": 1e-8}
    versions = result["versions"] | {"peer": {"flwr": "1.0"}}
    return result | ratios | extra | {"versions": versions, "seconds": result["seconds"] | {"peer": peer}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"sites": 2},
        {"sites": 200},
        {"drop": 2},
        {"drop": -1},
        {"params": 0},
        {"threads": 0},
        {"wire_bits": 8},
    ],
)
def test_conditions_under_which_no_session_runs_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        replace(TINY, **wrong)  # type: ignore[arg-type]


def test_a_case_survives_the_way_to_a_child_process(case: Case) -> None:
    assert Case.from_json(case.to_json()) == case
    told = json.loads(case.to_json())  # what the peer's script reads, which knows no Case
    assert (told["threshold"], told["survivors"], len(told["weights"])) == (3, [1, 2, 3], 4)


def test_the_same_seed_draws_the_same_updates_with_some_beyond_the_clip(case: Case, tmp_path: Path) -> None:
    first = case.vectors.read_bytes()
    assert len(first) == 4 * case.params * case.sites
    case.draw_updates()
    assert case.vectors.read_bytes() == first
    assert any((np.abs(case.update(site)) > case.clip).any() for site in range(1, 5))
    assert not np.array_equal(case.update(1), case.update(2))


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_a_measured_round_gives_the_exact_mean_on_every_wire(bits: int, case: Case) -> None:
    played = play_round(replace(case, wire_bits=bits))
    assert played.figures.upload_bytes / case.params == pytest.approx(bits / 8, rel=0.01)
    assert 0 < played.figures.max_error <= played.figures.error_bound
    assert len(played.figures.clients) == len(played.uploads) == 3
    assert set(played.figures.clients[0]["wall"]) == {"keys", "shares", "encode", "masks", "hash"}
    assert set(played.figures.coordinator["wall"]) == {"checks", "accumulate", "unmask", "decode"}


def test_a_round_whose_masks_stay_on_does_not_decode(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The partner: the masked weight sum is a random ring element, which is no weight."""
    monkeypatch.setattr("fedmedlora_crypto.secagg.aggregator.add_keystreams", lambda *_, **__: None)
    with pytest.raises(CodecError, match="weight sum"):
        play_round(case)


def test_a_kept_round_is_summed_again_from_files(case: Case) -> None:
    memory.keep(case, play_round(case))
    found = memory.of_coordinator(case)
    assert found["vectors"] * 4 * case.params == found["above_base_bytes"] >= 0
    assert memory.of_site(case)["base_bytes"] > 0


def test_the_floor_covers_every_word_whatever_the_threads(case: Case) -> None:
    for threads in (1, 2, 3):
        assert raw_aes_seconds(replace(case, threads=threads)) > 0


def test_both_suites_are_measured_and_the_hybrid_one_is_larger(case: Case) -> None:
    cost = suite_cost(case)
    assert cost["hybrid"]["keys_bytes"] > 10 * cost["x25519"]["keys_bytes"]
    assert cost["hybrid"]["shares_bytes"] > cost["x25519"]["shares_bytes"]
    assert all(value > 0 for suite in cost.values() for value in suite.values())


def test_medians_are_of_parts_and_of_totals() -> None:
    passes = [
        {"wall": {"a": a, "b": b}, "cpu": {"a": a, "total": 9.0}}
        for a, b in ((1.0, 5.0), (2.0, 1.0), (3.0, 2.0))
    ]
    found = median_parts(passes)  # type: ignore[arg-type]
    assert found["wall"] == {"a": 2.0, "b": 2.0, "total": 5.0}
    assert found["cpu"] == {"a": 2.0, "total": 9.0}


def test_a_result_without_a_peer_has_every_key(result: dict[str, Any]) -> None:
    assert result["client_wall_ratio"] is None and result["coordinator_cpu_ratio"] is None
    assert result["upload_bytes_per_value"] == pytest.approx(4, abs=0.01)
    assert result["max_error"] <= result["error_bound"]
    assert result["mask_over_raw_aes_ratio"] > 0
    assert set(result["memory"]) == {"site", "coordinator"}
    assert result["machine"]["cores"] >= 1 and result["versions"]["ours"]["cryptography"]
    assert columns(result) == ("", "ours")
    json.dumps(result)


def test_rows_show_each_part_and_the_ratios(result: dict[str, Any]) -> None:
    rows = cost_rows(beside_peer(result, 12.0))
    names = [row.name for row in rows]
    assert names[0] == "client, wall clock" and "coordinator, CPU" in names
    assert {row.name for row in rows if row.part} <= {n for parts in PARTS.values() for n in parts.values()}
    assert rows[0].ratio == "12.0" and rows[-1].ratio == "2.0"
    assert "flwr 1.0" in conditions(beside_peer(result, 2.0))
    assert any("hybrid" in row.name for row in beside_rows(result))


@pytest.mark.parametrize(
    ("value", "said"), [(None, "-"), (0.0004, "0.4 ms"), (0.25, "250 ms"), (2.5, "2.50 s")]
)
def test_seconds_read_well(value: float | None, said: str) -> None:
    assert seconds(value) == said


def test_the_cost_page_is_filled_from_the_results_and_a_stale_one_is_found(
    result: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "COST.md"
    marks = [f"<!-- {name}:begin -->\n<!-- {name}:end -->\n" for name in cost_tables.PARTS]
    page.write_text("".join(marks), encoding="utf-8")
    growth = {"growth": [{"sites": n, "seconds": n / 10} for n in (10, 100)]}
    for name, content in (("secagg", beside_peer(result, 12.0)), ("simulate", growth)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    arguments = ["--document", str(page), "--results", str(tmp_path)]
    assert cost_tables.main([*arguments, "--check"]) == 1
    assert cost_tables.main(arguments) == 0
    assert cost_tables.main([*arguments, "--check"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| client, wall clock |" in text and "| 100 | 10 |" in text
    assert "](results/simulate-growth.svg)" in text and (tmp_path / "simulate-growth.svg").is_file()


def test_the_committed_cost_page_is_fresh() -> None:
    page, results = ROOT / "docs/COST.md", ROOT / "docs/results"
    said = page.read_text(encoding="utf-8")
    assert cost_tables.generated(said, results) == said, "run python -m fedmedlora_bench.cost_tables"


def test_a_child_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with pytest.raises(MeasurementError, match="no such thing"), Child(command, tmp_path / "log") as child:
        child.read()


def test_the_peers_script_imports_nothing_of_ours() -> None:
    assert not {root for root in imported_roots(parsed(PEER_SCRIPT)) if root.startswith("fedmedlora")}


def test_without_the_peers_environment_the_command_says_how_to_make_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "secagg", "--against", "flwr", "--peer-venv", str(tmp_path / "none")])
    assert stopped.value.code == 2
    assert "run `make bench-peer`" in capsys.readouterr().err


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(ConfigError, match="no peer is called"):
        Peer.installed("nobody")


def test_the_peers_versions_are_pinned_exactly() -> None:
    lines = (ROOT / "benchmarks/peer-constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all("==" in pin for pin in pins)
    assert any(pin.startswith("flwr==") for pin in pins)


@pytest.mark.slow
@pytest.mark.skipif(not PEER_PYTHON.exists(), reason="the peer is not installed: run `make bench-peer`")
def test_both_sides_give_the_mean_of_the_same_updates(tmp_path: Path) -> None:
    target = tmp_path / "secagg.json"
    size = ["--params", "20000", "--sites", "5", "--drop", "1", "--repeats", "1"]
    peer = ["--against", "flwr", "--peer-venv", str(ROOT / PEER_ENVIRONMENT)]
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "secagg", *size, *peer, "--json", str(target)])
    assert stopped.value.code == 0
    found = json.loads(target.read_text(encoding="utf-8"))
    step = 2 * TINY.clip / 2**22  # of the peer's quantizing
    assert found["peer_max_error"] < 4 * step
    assert found["max_error"] <= found["error_bound"]
    assert found["client_wall_ratio"] > 0 and found["coordinator_cpu_ratio"] > 0
    assert found["peer_upload_bytes_per_value"] == pytest.approx(8, abs=0.1)
    assert set(found["seconds"]["peer"]["client"]["wall"]) >= {"encode", "masks", "keys", "shares", "total"}

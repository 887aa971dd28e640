"""One real study of one round: hospitals that train, a coordinator, a log, and what outsiders find.

This is the demo with real training, without the baselines: what is asserted is read from its files.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fedmedlora_audit.canary import Canaries, scan_folder
from fedmedlora_audit.validation_data import ValidationCounted
from fedmedlora_bench.systems import split_sites
from fedmedlora_cli.__main__ import main
from fedmedlora_cli.demo.clinic import CANARIES_FILE
from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_cli.demo.records import read_log
from fedmedlora_cli.demo.run import run_demo
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.clinic import canaries_of
from fedmedlora_core.codec import clip_update
from fedmedlora_core.learning.site_round import LocalUpdate, learner_for, train_round
from fedmedlora_core.learning.validation import count_on_notes
from fedmedlora_core.records import read_notes
from fedmedlora_core.shipped import shipped_base
from fedmedlora_core.study import INITIAL_FOLDER, Study
from fedmedlora_core.validation_counts import CountLayout
from fedmedlora_core.vote import vote_packing
from fedmedlora_site.training import training_seed
from fedmedlora_site.validation_steps import annotated_only
from fedmedlora_testkit.canaries import search
from fedmedlora_testkit.demo_stages import enrolled, federation_of
from fedmedlora_testkit.stored import stored_blobs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demo of one round in which the coordinator keeps what it was sent."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    run_demo(DemoOptions(out=folder, rounds=1, baselines=False, keep_evidence=True, validate_every=1))
    return folder


@pytest.fixture(scope="module")
def study(out: Path) -> Study:
    return Study.load(out / "study")


@pytest.fixture(scope="module")
def updates(out: Path, study: Study) -> dict[str, LocalUpdate]:
    """Every site's real update of round 1, trained again here: the same seed gives the same bytes."""
    notes = {s: read_notes(out / s / "data" / "notes.jsonl") for s in study.member_ids}
    learner = learner_for(study, shipped_base())
    initial = Adapter.load(out / "study" / INITIAL_FOLDER)
    return {
        site: train_round(
            learner,
            study,
            initial,
            train=splits.train,
            validation=splits.validation,
            round_number=1,
            seed=training_seed(study.study.seed, site, 1),
        )
        for site, splits in split_sites(study, notes).items()
    }


def test_no_canary_stands_outside_the_hospitals_own_folders(out: Path, tmp_path: Path) -> None:
    """The hospitals trained on their canaries; result, report and released adapter show none of them."""
    assert {"result.json", "report.html"} <= {path.name for path in out.iterdir()}
    found = search(out)
    assert found.verdict == "clean", found.to_json()
    mark = canaries_of("site-c", seed=7)[0].marks["record"]
    page = (out / "report.html").read_text().replace("</body>", f"<p>{mark}</p></body>")
    result = json.loads((out / "result.json").read_text()) | {"seen": mark}
    (tmp_path / "report.html").write_text(page)
    (tmp_path / "result.json").write_text(json.dumps(result))
    tensors = {name: np.array(values) for name, values in released(out).tensors.items()}
    save_file(tensors, tmp_path / "adapter.safetensors", metadata={"seen": mark})
    marks = Canaries.load([out / "site-c" / "source" / CANARIES_FILE])
    planted = {item.file for item in scan_folder(tmp_path, marks).found}
    assert planted == {"report.html", "result.json", "adapter.safetensors"}


def released(out: Path) -> Adapter:
    return Adapter.load(out / "coordinator" / "released")


def verify(out: Path, bundle: Path) -> tuple[int, dict[str, Any]]:
    """Run the verifier's command in this process: a bundle has many files, and each is falsified once."""
    verdict = bundle.parent / "verdict-again.json"
    arguments = ["audit", "verify", str(bundle), "--trust", str(out / "trust.json"), "--json", str(verdict)]
    verdict.unlink(missing_ok=True)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code, json.loads(verdict.read_text())


def test_the_result_has_the_keys_that_scripts_rely_on(out: Path) -> None:
    result = json.loads((out / "result.json").read_text())
    assert result["audit"]["verdict"] == "pass"
    assert result["systems"]["zero_shot"]["ner"]["strict_f1"] < 0.10
    assert result["systems"]["zero_shot"]["well_formed"] >= 0.90, (
        "zero means does not know, not cannot decode"
    )
    assert result["security"] | {"dropped": []} == {
        "mode": "masks",
        "sites": 4,
        "threshold": 3,
        "colluding_sites": 1,
        "dropped": [],
    }
    assert result["privacy"] is None
    sent = result["communication"]
    assert sent["wire_bits"] == 24
    counts = CountLayout.of(Study.load(out / "study")).packing.total_bytes
    update, vote = 3 * result["model"]["adapter_parameters"], vote_packing(4).total_bytes
    rest = sent["bytes_up_per_site_round"] - update - vote - counts
    assert 0 < rest < 75_000, "keys, shares and events of three chains"
    assert 0 <= sent["clipped"]["by_round_permille"]["1"] <= 1000
    assert {"strict_f1", "lenient_f1"} <= result["systems"]["federated"]["re"].keys()


def test_the_aggregate_is_the_weighted_mean_within_the_stated_bound(
    out: Path, study: Study, updates: dict[str, LocalUpdate]
) -> None:
    rule, codec = study.weight_rule(), study.codec()
    weights = {s: rule.weight_of(n_notes=u.n_notes, loss=u.validation_loss) for s, u in updates.items()}
    total = sum(weights.values())
    exact = np.zeros(study.adapter.dimension)
    for site, update in updates.items():
        clipped, _ = clip_update(update.delta, clip_value=study.clip_value, clip_norm=study.clip_norm)
        exact += weights[site] / total * clipped.astype(np.float64)
    initial = Adapter.load(out / "study" / INITIAL_FOLDER).vector()
    moved = released(out).vector().astype(np.float64) - initial
    ulp = float(np.spacing(np.float32(np.abs(released(out).vector()).max())))
    assert np.abs(moved - exact).max() <= codec.error_bound(weight_sum=total, m=4) + 2 * ulp
    assert np.abs(exact).max() > 1000 * codec.error_bound(weight_sum=total, m=4), "there was something to sum"


def test_the_opened_validation_counts_are_the_sum_over_the_hospitals(out: Path, study: Study) -> None:
    """What the log shows is what the released adapter finds on all held-out notes, counted here again."""
    learner, layout = learner_for(study, shipped_base()), CountLayout.of(study)
    notes = {s: read_notes(out / s / "data" / "notes.jsonl") for s in study.member_ids}
    counts = [
        annotated_only(count_on_notes(learner, study, released(out), splits.validation), study, site)
        for site, splits in split_sites(study, notes).items()
    ]
    total = np.sum([layout.encode(found) for found in counts], axis=0, dtype=np.uint32)
    _, entries = read_log(out / "bundle", study)
    (opened,) = [e.event.data for e in entries if e.event.type == "validation.counted"]
    assert isinstance(opened, ValidationCounted)
    rows = [value for row in (*opened.entities, *opened.relations) for value in (row.tp, row.fp, row.fn)]
    assert rows == total.tolist()
    assert opened.sites == 4
    assert sum(rows) > 100, "there was something to count"
    assert json.loads((out / "coordinator" / "released" / "release.json").read_text())["round"] == 1


def leaks(coordinator: Path, study: Study, updates: dict[str, LocalUpdate]) -> int:
    """Count blobs that give away one site's update when read as its plain encoding."""
    packing = study.packing()
    shift = 32 - packing.bits
    found = 0
    for data in stored_blobs(coordinator).values():
        if len(data) == packing.total_bytes:
            words = packing.read_bytes(data)[:-2] << np.uint32(shift)
            values = (words.view(np.int32) >> np.int32(shift)).astype(np.float64)
            found += any(abs(np.corrcoef(values, u.delta)[0, 1]) > 0.99 for u in updates.values())
    return found


def train_plainly(out: Path) -> None:
    """The same study without masks, up to its release: nothing is scored."""
    federation = federation_of(
        DemoOptions(out=out, rounds=1, secure="none", baselines=False, keep_evidence=True)
    )
    enrolled(federation.options)
    federation.agree()
    federation.train()


def test_the_coordinators_folder_holds_no_sites_update(
    out: Path, study: Study, updates: dict[str, LocalUpdate], tmp_path: Path
) -> None:
    sizes = [len(data) for data in stored_blobs(out / "coordinator").values()]
    assert sizes.count(study.packing().total_bytes) >= 4
    assert leaks(out / "coordinator", study, updates) == 0
    train_plainly(tmp_path / "plain")
    assert leaks(tmp_path / "plain" / "coordinator", study, updates) == 4, (
        "without masks the same search finds every site"
    )
    assert released(tmp_path / "plain").digest == released(out).digest, "and the sum is the same to the bit"


def test_masked_uploads_are_uniform(out: Path, study: Study) -> None:
    """Chi-square over the bytes of each upload against the uniform distribution, 255 degrees of freedom."""
    state, _ = read_log(out / "bundle", study)
    session = state.rounds[1].summed
    assert session is not None
    found = stored_blobs(out / "coordinator")
    for digest in session.updates.values():
        counts = np.bincount(np.frombuffer(found[digest], dtype=np.uint8), minlength=256)
        expected = counts.sum() / 256
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert 255 - 6 * np.sqrt(510) < chi_square < 255 + 6 * np.sqrt(510)


def test_one_changed_byte_in_any_file_of_the_bundle_is_found(out: Path, tmp_path: Path) -> None:
    code, verdict = verify(out, out / "bundle")
    assert (code, verdict["verdict"]) == (0, "pass")
    files = sorted(path.relative_to(out / "bundle") for path in (out / "bundle").rglob("*") if path.is_file())
    assert len(files) >= 4
    for file in files:
        bundle = tmp_path / "bundle"
        shutil.copytree(out / "bundle", bundle)
        data = bytearray((bundle / file).read_bytes())
        data[len(data) // 2] ^= 0x01
        (bundle / file).write_bytes(data)
        code, verdict = verify(out, bundle)
        assert (code, verdict["verdict"]) == (1, "fail"), file
        failed = [c for c in verdict["checks"].values() if c["result"] == "fail"]
        assert any(c["first"] is not None or str(file) in c["sentence"] for c in failed), file
        shutil.rmtree(bundle)


def test_the_released_adapter_loads_in_a_plain_script(out: Path, tmp_path: Path) -> None:
    script = tmp_path / "plain_script.py"
    script.write_text(
        "import sys\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "base = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "model = PeftModel.from_pretrained(base, sys.argv[2])\n"
        "moved = [n for n, p in model.named_parameters() if 'lora_B' in n and p.abs().sum() > 0]\n"
        "assert moved, 'the adapter changes nothing'\n"
        "assert not any('fedmedlora' in name for name in sys.modules)\n"
        "tokens = AutoTokenizer.from_pretrained(sys.argv[1])('no fever', return_tensors='pt')\n"
        "print(tuple(model(**tokens).logits.shape))\n"
    )
    command = [sys.executable, str(script), str(shipped_base()), str(out / "coordinator" / "released")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_adapter_extracts_from_a_text_file(out: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("severe chest pain on monday . started aspirin 81 mg daily .\n")
    command = [sys.executable, "-m", "fedmedlora_cli", "extract", str(note)]
    command += ["--adapter", str(out / "coordinator" / "released")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["document_id"] == "note"
    for entity in found["entities"]:
        assert entity["text"] == note.read_text()[entity["start"] : entity["end"]]

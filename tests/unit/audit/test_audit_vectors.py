"""The committed vectors: made again byte for byte, and judged from the files alone."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit.bundle import write_bundle
from fedmedlora_audit.errors import EventError, ProofError
from fedmedlora_audit.event_data import IdDigest
from fedmedlora_audit.events import open_event
from fedmedlora_audit.merkle import (
    EMPTY_ROOT,
    Tree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.session import list_hash, session_id, view_of
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_testkit.audit_log import StudyLog
from fedmedlora_testkit.audit_probes import CONSISTENCY_CLASSES, INCLUSION_CLASSES

VECTORS = Path(__file__).resolve().parents[2] / "vectors"


def load(name: str) -> Any:
    return json.loads((VECTORS / "audit" / f"{name}.json").read_text(encoding="utf-8"))


def test_vectors_are_made_again_byte_for_byte(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate_audit", VECTORS / "generate_audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(tmp_path)
    committed = {path.name: path.read_bytes() for path in (VECTORS / "audit").iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == committed


def test_tree_vectors() -> None:
    table = load("tree")
    leaves = [leaf_hash(bytes.fromhex(data)) for data in table["leaf_data"]]
    roots = [bytes.fromhex(root) for root in table["roots"]]
    for row in table["inclusion"]:
        proof = [bytes.fromhex(part) for part in row["proof"]]
        index, size = row["index"], row["size"]
        verify_inclusion(leaf=leaves[index], index=index, size=size, proof=proof, root=roots[size])
    for row in table["consistency"]:
        proof = [bytes.fromhex(part) for part in row["proof"]]
        old, new = row["old"], row["new"]
        verify_consistency(old_size=old, old_root=roots[old], new_size=new, new_root=roots[new], proof=proof)


def accepted(verify: Callable[..., None], **given: Any) -> bool:
    try:
        verify(**given)
    except ProofError:
        return False
    return True


def test_every_probe_of_an_inclusion_proof_gives_what_it_says() -> None:
    rows = load("proofs")["inclusion"]
    for row in rows:
        given = {
            "leaf": bytes.fromhex(row["leaf"]),
            "index": row["index"],
            "size": row["size"],
            "proof": [bytes.fromhex(part) for part in row["proof"]],
            "root": bytes.fromhex(row["root"]),
        }
        assert accepted(verify_inclusion, **given) is row["accepted"], row
    assert {row["class"] for row in rows} == INCLUSION_CLASSES
    assert sum(row["accepted"] for row in rows) == sum(row["class"] == "good" for row in rows)


def test_every_probe_of_a_consistency_proof_gives_what_it_says() -> None:
    rows = load("proofs")["consistency"]
    for row in rows:
        given = {
            "old_size": row["old_size"],
            "old_root": bytes.fromhex(row["old_root"]),
            "new_size": row["new_size"],
            "new_root": bytes.fromhex(row["new_root"]),
            "proof": [bytes.fromhex(part) for part in row["proof"]],
        }
        assert accepted(verify_consistency, **given) is row["accepted"], row
    assert {row["class"] for row in rows} == CONSISTENCY_CLASSES
    assert sum(row["accepted"] for row in rows) == sum(row["class"] == "good" for row in rows)


def test_published_constants_are_ours() -> None:
    table = load("proofs")["published"]
    assert EMPTY_ROOT.hex() == table["empty_root"]
    for row in table["leaves"]:
        assert leaf_hash(bytes.fromhex(row["data"])).hex() == row["hash"]
    node = table["node"]
    assert node_hash(bytes.fromhex(node["left"]), bytes.fromhex(node["right"])).hex() == node["hash"]
    tree = table["tree"]
    assert Tree.of_data(map(bytes.fromhex, tree["leaf_data"])).root().hex() == tree["root"]


def test_name_vectors() -> None:
    table = load("names")
    sid = table["session"].pop("sid")
    assert session_id(**table["session"]) == sid
    rows = [IdDigest(**row) for row in table["list"]]
    assert (list_hash(rows), view_of(sid, rows)) == (table["list_hash"], table["view"])


def test_good_event_opens() -> None:
    table = load("events")
    assert open_event(table["good"].encode(), VerifierKey.parse(table["vkey"])).type == "step.refused"


@pytest.mark.parametrize("name", sorted(load("events")["refused"]))
def test_refused_event(name: str) -> None:
    table = load("events")
    row = table["refused"][name]
    with pytest.raises(EventError) as caught:
        open_event(row["note"].encode(), VerifierKey.parse(table["vkey"]))
    assert caught.value.check == row["check"]


def test_run_is_judged_from_the_file(tmp_path: Path) -> None:
    table = load("run")
    write_bundle(
        tmp_path / "bundle",
        charter=table["charter"].encode(),
        entries=[note.encode() for note in table["notes"]],
        checkpoint=table["checkpoint"].encode(),
        signer=StudyLog().authors["site-a"].signer,
    )
    trust = Trust.from_json(json.dumps(table["trust"]).encode())
    verdict = verify_bundle(tmp_path / "bundle", trust)
    assert (verdict.verdict, verdict.events) == ("pass", len(table["notes"]))


def test_worked_example_of_the_document_is_an_entry_of_the_run() -> None:
    text = (VECTORS.parents[1] / "docs" / "AUDIT.md").read_text(encoding="utf-8")
    found = re.search(r"^Entry (\d+) of .*?```\n(.+?\n)```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    number, note = found.groups()
    table = load("run")
    assert table["notes"][int(number)] == note
    assert leaf_hash(note.encode()).hex() in text
    assert table["checkpoint"] in text

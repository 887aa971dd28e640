"""Write the vectors of the audit trail: `python tests/vectors/generate_audit.py [FOLDER]`.

`tree.json` holds roots and proofs, `proofs.json` bent proofs by class with what each must give, and the
published constants, `names.json` session names, `events.json` one signed event and every
refused spelling of it, `run.json` a whole study of four sites, one of which drops out: charter, notes, head
and trust file. The same code gives the same bytes; a test compares them with what is committed.
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "support"))

from fedmedlora_audit.event_data import IdDigest  # noqa: E402
from fedmedlora_audit.merkle import Tree  # noqa: E402
from fedmedlora_audit.session import list_hash, session_id, view_of  # noqa: E402
from fedmedlora_audit.trust import Trust  # noqa: E402
from fedmedlora_testkit.audit_defects import DEFECTS, SIGNER, refusal_text  # noqa: E402
from fedmedlora_testkit.audit_log import StudyLog, digest_of  # noqa: E402
from fedmedlora_testkit.audit_probes import PUBLISHED, consistency_probes, inclusion_probes  # noqa: E402

LEAF_DATA = PUBLISHED["tree"]["leaf_data"]


def tree_vectors() -> dict[str, Any]:
    """Every root, inclusion proof and consistency proof over eight leaves."""
    tree = Tree.of_data(bytes.fromhex(data) for data in LEAF_DATA)
    sizes = range(1, len(LEAF_DATA) + 1)
    return {
        "leaf_data": list(LEAF_DATA),
        "roots": [tree.root(size).hex() for size in range(len(LEAF_DATA) + 1)],
        "inclusion": [
            {"index": i, "size": n, "proof": [h.hex() for h in tree.inclusion_proof(i, n)]}
            for n in sizes
            for i in range(n)
        ],
        "consistency": [
            {"old": m, "new": n, "proof": [h.hex() for h in tree.consistency_proof(m, n)]}
            for n in sizes
            for m in range(1, n + 1)
        ],
    }


def proof_vectors() -> dict[str, Any]:
    """Good and bent proofs of trees of several sizes, each with its class and whether it must be accepted."""
    return {
        "published": PUBLISHED,
        "inclusion": [probe.table() for probe in inclusion_probes()],
        "consistency": [probe.table() for probe in consistency_probes()],
    }


def name_vectors() -> dict[str, Any]:
    """A session's id, the digest of a list, and the view."""
    fields = {
        "origin": "test.example/study-1",
        "charter": digest_of("charter"),
        "round_number": 3,
        "attempt": 2,
        "purpose": "update",
        "base": digest_of("base"),
        "suite": "x25519-aes256ctr/2",
    }
    sid = session_id(**fields)  # type: ignore[arg-type]
    rows = [IdDigest(id=site, digest=digest_of(site)) for site in ("site-b", "site-a", "site-c")]
    return {
        "session": {**fields, "sid": sid},
        "list": [{"id": row.id, "digest": row.digest} for row in rows],
        "list_hash": list_hash(rows),
        "view": view_of(sid, rows),
    }


def event_vectors() -> dict[str, Any]:
    """One good event and each refused spelling, all with a signature that holds."""
    good = refusal_text()
    return {
        "vkey": SIGNER.vkey,
        "good": SIGNER.sign(good + "\n").decode(),
        "refused": {
            name: {"check": "E1", "note": SIGNER.sign(change(good) + "\n").decode()}
            for name, change in DEFECTS.items()
        },
    }


def run_vectors() -> dict[str, Any]:
    """A whole study."""
    log = StudyLog().play(2, {"upload": ["site-d"]})
    return {
        "charter": log.charter.decode(),
        "trust": json.loads(Trust.from_terms(log.terms, genesis=log.entries[0].leaf).to_json()),
        "checkpoint": log.checkpoint().decode(),
        "notes": [entry.note.decode() for entry in log.entries],
    }


def write(folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = {
        "tree": tree_vectors,
        "proofs": proof_vectors,
        "names": name_vectors,
        "events": event_vectors,
        "run": run_vectors,
    }
    for name, make in vectors.items():
        text = json.dumps(make(), indent=1, sort_keys=True, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "audit")

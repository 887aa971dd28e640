"""One signed event of every type in the schema, whether or not a lawful run has it."""

from __future__ import annotations

from typing import Any, Final

from fedmedlora_audit.chain import NO_EVENT
from fedmedlora_audit.events import KINDS, Entry, Event, encode_event, entry_of, make_event, parse_event
from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, digest_of, seed_of

SITE: Final = "site-a"
D: Final = digest_of("a blob")
ROWS: Final = [{"id": "site-a", "digest": D}, {"id": "site-b", "digest": D}]
VALUES: Final[dict[str, Any]] = {
    "accepted": ["site-a", "site-b"], "adapter": D, "against": 1, "attempt": 1, "base": D, "charter": D,
    "delta": D, "end": 256, "entities": [{"tp": 5, "fp": 2, "fn": 1}], "epsilon_milli": 1500, "graph": D,
    "h_u2": D, "h_u3": D, "hold": 1, "inputs": ROWS, "key": "0123abcd",
    "left_out": [{"id": "site-d", "reason": "silent"}], "next_base": D,
    "pair_of": ["site-d"], "purpose": "update", "ready": ["site-a", "site-b"], "relations": [], "ring": D,
    "root": D, "round": 2, "rounds": 3, "self_of": ["site-a"], "seq": 1, "sid": D,
    "signers": ["site-a", "site-b"], "site": SITE, "sites": 4, "size": 12, "software": "fedmedlora-0.1.0",
    "start": 0, "state": D, "state_before": D, "step": "plan", "suite": "plain/1",
    "type": "plan.accepted", "u1": ROWS, "u2": ROWS, "u3": ROWS, "view": D, "voters": 4, "weight_sum": 12,
}  # fmt: skip
"""A value for every field of every type's data, by the field's name."""
SPECIAL: Final[dict[str, dict[str, Any]]] = {
    "step.refused": {"reason": "policy"},
    "dp.spent": {
        "delta": "1e-5",
        "mechanism": "dp-sgd",
        "noise_milli": 1000,
        "sampling_micro": 20_000,
        "steps": 50,
    },
    "key.rotated": {
        "consent": "A" * 86 + "==",
        "key": "witness",
        "possession": "A" * 86 + "==",
        "vkey": NoteSigner.from_seed(SITE, seed_of("later"), algorithm=ALG_COSIGNATURE).vkey,
    },
    "retention.hold": {"reason": "litigation"},
}


def sample_event(log: StudyLog, type_: str, **fields: Any) -> Event:
    """Return an event of a type with every field of its data; `fields` replaces or adds others."""
    kind = KINDS[type_]
    author = SITE if kind.author == "site" else "coordinator"
    member = log.terms.members[SITE]
    vkeys = {
        "log_vkey": log.terms.log_vkey,
        "coordinator_vkey": log.terms.coordinator_vkey,
        "event_vkey": member.event_vkey,
        "witness_vkey": member.witness_vkey,
    }
    known = {**VALUES, **vkeys, **SPECIAL.get(type_, {})}
    whole: dict[str, Any] = {
        "log": ORIGIN,
        "type": type_,
        "actor": {"id": author, "role": kind.author, "key": log.authors[author].signer.key_id},
        "seq": 1,
        "prev": NO_EVENT,
        "saw": {"size": 0, "root": D},
        "time": "2026-03-01T00:15:07Z",
        "run": "run-1",
        "round": 2 if kind.in_round else None,
        "reason": "below_threshold" if type_ == "round.aborted" else None,
        "objects": [{"role": kind.object_role, "digest": D, "bytes": 1000}] if kind.object_role else [],
        "refs": [D],
        "data": {name: known[name] for name in kind.data.model_fields},
    }
    return make_event({**whole, **fields})


def sample_entry(log: StudyLog, type_: str, index: int = 0, **fields: Any) -> Entry:
    """Return the signed entry of a sample."""
    event = sample_event(log, type_, **fields)
    note = encode_event(event, log.authors[event.actor.id].signer)
    return entry_of(index, note, parse_event(note).event)

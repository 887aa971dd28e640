"""Defects of an event's text, each of which a reader must refuse as E1."""

from collections.abc import Callable

from fedmedlora_audit import event_data as of
from fedmedlora_audit.chain import EMPTY_HEAD, NO_EVENT, Author, Chain
from fedmedlora_audit.note import NoteSigner
from fedmedlora_testkit.audit_log import ORIGIN

SIGNER = NoteSigner.from_seed("site-a", bytes(range(32)))
TIME = "2026-03-01T00:00:00Z"


def refusal_text() -> str:
    """The text of one good event, which the defects change."""
    note, _ = Author("site-a", "site", SIGNER, ORIGIN).draft(
        Chain(),
        type="step.refused",
        data=of.StepRefused(step="plan", reason="policy"),
        saw=EMPTY_HEAD,
        time=TIME,
    )
    return note.split(b"\n\n")[0].decode()


Change = Callable[[str], str]
DEFECTS: dict[str, Change] = {
    "blank": lambda t: t.replace('"seq":1', '"seq": 1'),
    "float": lambda t: t.replace('"seq":1', '"seq":1.0'),
    "text_for_number": lambda t: t.replace('"seq":1', '"seq":"1"'),
    "bool_for_number": lambda t: t.replace('"seq":1', '"seq":true'),
    "duplicate_key": lambda t: t.replace('"seq":1', '"seq":2,"seq":1'),
    "unknown_field": lambda t: t.replace('"seq":1', '"seq":1,"ward":"x"'),
    "unknown_data_field": lambda t: t.replace('"step":"plan"', '"step":"plan","text":"x"'),
    "null_field": lambda t: t.replace('"seq":1', '"round":null,"seq":1'),
    "order": lambda t: t.replace('"reason":"policy","step":"plan"', '"step":"plan","reason":"policy"'),
    "escape": lambda t: t.replace('"plan"', '"pl\\u0061n"'),
    "schema": lambda t: t.replace("flaudit/1", "flaudit/2"),
    "no_schema": lambda t: t.replace('"schema":"flaudit/1",', ""),
    "free_reason": lambda t: t.replace('"policy"', '"the patient was moved"'),
    "type": lambda t: t.replace("step.refused", "step.taken"),
    "type_of_other_data": lambda t: t.replace("step.refused", "run.closed"),
    "role": lambda t: t.replace('"role":"site"', '"role":"coordinator"'),
    "id": lambda t: t.replace('"id":"site-a"', '"id":"Site A"'),
    "reserved_id": lambda t: t.replace('"id":"site-a"', '"id":"coordinator"'),
    "action": lambda t: t.replace('"action":"E"', '"action":"C"'),
    "outcome": lambda t: t.replace('"outcome":8', '"outcome":0'),
    "reason_where_none": lambda t: t.replace('"refs"', '"reason":"operator","refs"'),
    "seq_zero": lambda t: t.replace('"seq":1', '"seq":0'),
    "upper_digest": lambda t: t.replace(NO_EVENT, "A" * 64),
    "short_digest": lambda t: t.replace(NO_EVENT, "0" * 63),
    "milliseconds": lambda t: t.replace(TIME, "2026-03-01T00:00:00.123Z"),
    "local_time": lambda t: t.replace(TIME, "2026-03-01T00:00:00+01:00"),
    "round_zero": lambda t: t.replace('"run"', '"round":0,"run"'),
    "object_where_none": lambda t: t.replace(
        '"objects":[]',
        '"objects":[{"alg":"rfc6962-1mib","bytes":1,"digest":"' + NO_EVENT + '","role":"keys"}]',
    ),
    "list": lambda t: f"[{t}]",
    "two_lines": lambda t: t + "\n" + t,
    "trailing": lambda t: t + " ",
    "empty": lambda _: "",
    "nan": lambda t: t.replace('"seq":1', '"seq":NaN'),
    "huge": lambda t: t.replace('"seq":1', '"seq":' + "9" * 40),
}

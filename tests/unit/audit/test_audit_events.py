"""Events: one spelling, a closed schema, and a parser that no bytes can crash."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from fedmedlora_audit import event_data as of
from fedmedlora_audit.chain import EMPTY_HEAD, NO_EVENT, Author, Chain, event_time
from fedmedlora_audit.errors import AuditError, EventError, NoteError
from fedmedlora_audit.events import (
    KINDS,
    MAX_EVENT_BYTES,
    Event,
    Object,
    encode_event,
    make_event,
    open_event,
    parse_event,
)
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.note import NoteSigner, VerifierKey
from fedmedlora_audit.session import list_hash, list_json, session_id, view_of
from fedmedlora_testkit.audit_defects import DEFECTS, SIGNER, TIME
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog

KEY = VerifierKey.parse(SIGNER.vkey)
AUTHOR = Author("site-a", "site", SIGNER, ORIGIN)
LOG = StudyLog().play(1, None)

ids = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
id_sets = st.sets(ids, max_size=8).map(lambda found: tuple(sorted(found)))


def draft(**fields: Any) -> bytes:
    given_fields: dict[str, Any] = {
        "type": "step.refused",
        "data": of.StepRefused(step="plan", reason="policy"),
        "saw": EMPTY_HEAD,
        "time": TIME,
        **fields,
    }
    return AUTHOR.draft(Chain(), **given_fields)[0]


def text_of(note: bytes) -> str:
    return note.split(b"\n\n")[0].decode()


def signed(text: str) -> bytes:
    return SIGNER.sign(text + "\n")


@given(ids, digests, st.integers(1, 10**6), id_sets, id_sets, st.integers(0, of.MAX_INT))
def test_any_event_round_trips(
    run: str, sid: str, number: int, first: tuple[str, ...], second: tuple[str, ...], seq: int
) -> None:
    data = of.UnmaskResponse(sid=sid, self_of=first, pair_of=second)
    item = Object(role="opened-shares", digest=sid, bytes=seq)
    chain = Chain(min(seq, of.MAX_INT - 1), sid)
    note, after = AUTHOR.draft(
        chain,
        type="unmask.response",
        data=data,
        saw=EMPTY_HEAD,
        time=TIME,
        run=run,
        round=number,
        objects=[item],
        refs=[sid],
    )
    event = open_event(note, KEY)
    assert event.data == data
    assert (event.seq, event.prev, event.sid) == (chain.seq + 1, sid, sid)
    assert encode_event(event, SIGNER) == note
    assert after == Chain(event.seq, leaf_hash(note).hex())


def test_model_writes_every_event_of_a_run_in_canonical_form_itself() -> None:
    """Else each reader would fall back to the slow library, and nobody would notice but the clock."""
    for entry in LOG.entries:
        written = entry.event.model_dump_json(by_alias=True, exclude_none=True).encode()
        assert written == entry.event.canonical_json() == entry.note.split(b"\n", 1)[0]


def test_every_event_of_a_run_round_trips() -> None:
    for entry in LOG.entries:
        key = LOG.state.key_of(entry.event.actor)
        assert open_event(entry.note, key) == entry.event
        assert json.loads(entry.event.canonical_json())["type"] == entry.event.type


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_without_a_crash(junk: bytes) -> None:
    with pytest.raises(AuditError):
        parse_event(junk)


@settings(max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=8,
    )
)
def test_any_json_is_refused_without_a_crash(value: object) -> None:
    try:
        text = rfc8785.dumps(value).decode()  # type: ignore[arg-type]
        note = signed(text)
    except (ValueError, NoteError):
        return
    with pytest.raises(EventError):
        parse_event(note)


@given(st.data())
def test_one_changed_field_is_another_event_or_none(data: st.DataObject) -> None:
    table = json.loads(text_of(draft()))
    name = data.draw(st.sampled_from(sorted(table)))
    table[name] = data.draw(st.one_of(st.none(), st.integers(-3, 3), st.text(max_size=5), st.booleans()))
    try:
        note = signed(rfc8785.dumps(table).decode())
        event = open_event(note, KEY)
    except (AuditError, ValueError):
        return
    assert event.canonical_json().decode() == text_of(note)


@pytest.mark.parametrize("defect", DEFECTS)
def test_defect_in_the_text_is_e1(defect: str) -> None:
    text = text_of(draft())
    changed = DEFECTS[defect](text)
    assert changed != text
    with pytest.raises(EventError) as caught:
        parse_event(signed(changed))
    assert caught.value.check == "E1"
    assert "patient" not in str(caught.value), "errors never carry the text"


def test_too_large_is_e1() -> None:
    with pytest.raises(EventError) as caught:
        parse_event(signed("x" * MAX_EVENT_BYTES))
    assert caught.value.check == "E1"
    rows = tuple(of.IdDigest(id=f"{n:032d}", digest=NO_EVENT) for n in range(600))
    author = Author("coordinator", "coordinator", SIGNER, ORIGIN)
    with pytest.raises(EventError, match="at most"):
        author.draft(
            Chain(),
            type="shares.fixed",
            data=of.SharesFixed(sid=NO_EVENT, view=NO_EVENT, u2=rows),
            saw=EMPTY_HEAD,
            time=TIME,
            round=1,
        )


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "no.such"},
        {"data": of.RunClosed(rounds=1)},
        {"round": -1},
        {"reason": "operator"},
        {"type": "update.submitted"},
        {"refs": ["x"]},
        {"type": "plan.accepted", "data": of.Base(base=NO_EVENT)},
        {"type": "charter.signed", "data": of.CharterSigned(charter=NO_EVENT), "round": 1},
        {"refs": [NO_EVENT, NO_EVENT]},
        {"time": "yesterday"},
        {"run": "Run 1"},
    ],
)
def test_draft_refuses_what_is_no_event(fields: dict[str, Any]) -> None:
    with pytest.raises(EventError):
        draft(**fields)


def test_encode_refuses_anothers_key() -> None:
    event = parse_event(draft()).event
    with pytest.raises(EventError) as caught:
        encode_event(event, NoteSigner.generate("site-a"))
    assert caught.value.check == "E2"


def test_event_that_names_another_key_than_the_signers_is_e2() -> None:
    text = text_of(draft()).replace(SIGNER.key_id, "00000000")
    with pytest.raises(EventError) as caught:
        open_event(signed(text), KEY)
    assert caught.value.check == "E2"


def test_ids_and_rows_are_sorted_and_occur_once() -> None:
    for ids_given in (("b", "a"), ("a", "a")):
        with pytest.raises(ValueError, match="sorted"):
            of.RoundClosed(sid=NO_EVENT, next_base=NO_EVENT, accepted=ids_given)
        rows = tuple(of.IdDigest(id=name, digest=NO_EVENT) for name in ids_given)
        with pytest.raises(ValueError, match="sorted"):
            of.SharesFixed(sid=NO_EVENT, view=NO_EVENT, u2=rows)


def test_values_are_frozen_and_closed() -> None:
    for kind in KINDS.values():
        assert kind.data.model_config["frozen"]
        assert kind.data.model_config["extra"] == "forbid"
    assert Event.model_config["extra"] == "forbid"


def test_no_field_of_any_event_is_a_float_or_free_text() -> None:
    # R5.1.3
    """The closed schema is what keeps clinical text out of the log (decision 16)."""

    def texts(model: type[BaseModel], path: str) -> list[str]:
        found = []
        schema = model.model_json_schema(by_alias=True)
        tables = [schema, *schema.get("$defs", {}).values()]
        for table in tables:
            for name, field in table.get("properties", {}).items():
                options = [field, *field.get("anyOf", []), field.get("items", {})]
                assert not any(option.get("type") == "number" for option in options), (path, name)
                for option in options:
                    bounded = {"pattern", "enum", "const", "$ref"} & option.keys()
                    if option.get("type") == "string" and not bounded:
                        found.append(f"{path}.{name}")
        return found

    for type_, kind in KINDS.items():
        assert texts(kind.data, type_) == []
    assert texts(Event, "event") == []


@pytest.mark.parametrize("kind", sorted({kind.data for kind in KINDS.values()}, key=str))
def test_data_is_declared_in_the_order_of_its_text(kind: type[of.Data]) -> None:
    assert list(kind.model_fields) == sorted(kind.model_fields)


def test_time_is_utc_in_whole_seconds() -> None:
    # R5.1.4
    moment = datetime(2026, 3, 1, 1, 2, 3, 999999, tzinfo=timezone(timedelta(hours=1)))
    assert event_time(moment) == "2026-03-01T00:02:03Z"
    assert event_time(datetime(2026, 3, 1, tzinfo=UTC)) == TIME


# -- names of sessions


def test_session_id_binds_every_field() -> None:
    # R5.5.1
    fields: dict[str, Any] = {
        "origin": "o",
        "charter": "c",
        "round_number": 1,
        "attempt": 1,
        "purpose": "update",
        "base": "b",
        "suite": "s",
    }
    names = {session_id(**fields)}
    for name, value in fields.items():
        names.add(session_id(**{**fields, name: value + 1 if isinstance(value, int) else value + "x"}))
    names.add(session_id(**{**fields, "origin": "oc", "charter": ""}))
    assert len(names) == len(fields) + 2, "length prefixes keep neighbours apart"


def test_lists_are_hashed_in_one_order() -> None:
    # R5.5.2
    rows = [of.IdDigest(id=name, digest=NO_EVENT) for name in ("b", "a")]
    assert list_json(rows) == (
        f'[{{"digest":"{NO_EVENT}","id":"a"}},{{"digest":"{NO_EVENT}","id":"b"}}]'.encode()
    )
    assert list_hash(rows) == list_hash(rows[::-1])
    assert view_of(NO_EVENT, rows) == view_of(NO_EVENT, rows[::-1]) != view_of("f" * 64, rows)


def test_make_event_fills_in_what_the_type_fixes() -> None:
    event = parse_event(draft()).event
    assert (event.action, event.outcome) == ("E", 8)
    with pytest.raises(EventError):
        make_event({})


@pytest.mark.parametrize("time", ["2026-02-31T00:00:00Z", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z"])
def test_moment_that_no_calendar_has_is_refused(time: str) -> None:
    with pytest.raises(EventError, match="field time"):
        parse_event(signed(text_of(draft()).replace(TIME, time)))

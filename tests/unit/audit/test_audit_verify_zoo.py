"""The attack zoo: each attack on a log or bundle is named by its own check; a clean log gives no finding."""

import base64
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from fedmedlora_audit import event_data as of
from fedmedlora_audit.chain import Author
from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.checks import LAW_CHECKS
from fedmedlora_audit.events import parse_event
from fedmedlora_audit.merkle import Tree, leaf_hash
from fedmedlora_audit.note import LOW_ORDER_KEYS, NoteSigner, key_id
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_testkit.audit_attacks import ATTACKS
from fedmedlora_testkit.audit_forger import Forger, edit_file
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, charter_table, seed_of


@cache
def clean_log() -> StudyLog:
    return StudyLog().play(2, {"upload": ["site-d"]})


def forger() -> Forger:
    return Forger(clean_log())


def failed(verdict: Verdict) -> set[str]:
    assert verdict.verdict == "fail"
    return {name for name, result in verdict.checks.items() if result.result == "fail"}


def test_clean_log_gives_no_finding(tmp_path: Path) -> None:
    verdict = forger().judge(tmp_path / "bundle")
    assert verdict.verdict == "pass"
    assert verdict.findings == ()
    assert {r.result for r in verdict.checks.values()} == {"pass", "not judged"}
    assert {n for n, r in verdict.checks.items() if r.result == "not judged"} == {
        "A3",
        "C3",
        "C6",
        "C7",
        "E8",
        "J1",
    }


# -- one unlawful event, lawfully sealed: every check of the law, once


def one_attack_per_check() -> list[str]:
    chosen: dict[str, str] = {}
    for name, (check, _) in ATTACKS.items():
        chosen.setdefault(check, name)
    return sorted(chosen.values())


@pytest.mark.parametrize("name", one_attack_per_check())
def test_unlawful_event_in_a_sealed_log_is_named(name: str, tmp_path: Path) -> None:
    check, make = ATTACKS[name]
    log = StudyLog()
    note = make(log)
    index = log.tree.size
    made = Forger(log)
    made.notes.append(note)
    if index == 0:
        made.trust = made.trust.model_copy(update={"genesis": leaf_hash(note).hex()})
    verdict = made.judge(tmp_path / "bundle")
    assert check in failed(verdict)
    assert (check, index) in {(finding.check, finding.index) for finding in verdict.findings}


def test_one_attack_for_every_check_of_the_law() -> None:
    raised = {check for check, _ in ATTACKS.values()}
    assert set(LAW_CHECKS) - raised == {"E4"}, "E4 is attacked below"
    assert raised - set(LAW_CHECKS) == {"E2", "C6"}, "also checks of the verifier itself"


# -- rewriting the past


def edited_event(made: Forger) -> None:
    """A byte of the aggregate's weight changes; nothing is signed anew."""
    index = made.index("aggregate.published")
    made.notes[index] = made.notes[index].replace(b'"weight_sum":40', b'"weight_sum":41')


def edited_and_signed_anew(made: Forger) -> None:
    index = made.index("aggregate.published")
    made.change(index, data=made.event(index).data.model_copy(update={"weight_sum": 41}))


def edited_with_the_whole_chain(made: Forger) -> None:
    edited_and_signed_anew(made)
    made.resign()


def events_reordered(made: Forger) -> None:
    """Two sites' consents with their receipts change places; the coordinator signs its part anew."""
    first, second = made.index("survivors.agreed", "site-a"), made.index("survivors.agreed", "site-b")
    pairs = made.notes[first : first + 2], made.notes[second : second + 2]
    made.notes[first : second + 2] = [*pairs[1], *made.notes[first + 2 : second], *pairs[0]]
    made.resign()


def event_of_a_site_omitted(made: Forger) -> None:
    index = made.index("survivors.agreed", "site-c")
    del made.notes[index : index + 2]
    made.resign()


def receipt_omitted(made: Forger) -> None:
    del made.notes[made.index("receipt", which=5)]
    made.resign()


def event_replayed(made: Forger) -> None:
    index = made.index("plan.accepted", "site-a")
    made.notes.insert(index + 2, made.notes[index])


def event_spliced_from_another_log(made: Forger) -> None:
    author = Author("site-a", "site", made.log.authors["site-a"].signer, "elsewhere.example/log")
    note = made.log.draft(
        "site-a", "step.refused", of.StepRefused(step="plan", reason="policy"), author=author
    )
    made.notes.append(note)


def signature_forged(made: Forger) -> None:
    """The coordinator writes a site's consent itself."""
    index = made.index("survivors.agreed", "site-b")
    text = parse_event(made.notes[index]).event.canonical_json().decode() + "\n"
    fake = NoteSigner.from_seed("site-b", seed_of("coordinator's own")).sign(text)
    made.notes[index] = fake


def second_signature_line(made: Forger) -> None:
    index = made.index("survivors.agreed", "site-b")
    text = parse_event(made.notes[index]).event.canonical_json().decode() + "\n"
    made.notes[index] += made.signer.sign(text).split(b"\n\n")[1]


def not_canonical(made: Forger) -> None:
    index = made.index("round.plan")
    text = parse_event(made.notes[index]).event.canonical_json().decode()
    made.notes[index] = made.signer.sign(text.replace('"seq":', '"seq": ') + "\n")


def duplicate_key(made: Forger) -> None:
    index = made.index("round.plan")
    text = parse_event(made.notes[index]).event.canonical_json().decode()
    made.notes[index] = made.signer.sign(text.replace('"type":', '"type":"run.closed","type":') + "\n")


def smuggled_field(made: Forger) -> None:
    index = made.index("round.plan")
    table = json.loads(parse_event(made.notes[index]).event.canonical_json())
    table["data"]["note"] = "chest pain"
    made.notes[index] = made.signer.sign(rfc8785.dumps(table).decode() + "\n")


def record_number_in_the_run_id(made: Forger) -> None:
    for index in range(len(made.notes)):
        if made.event(index).actor.id == "coordinator":
            made.change(index, run="mrn-12345678")
    made.resign()


def unmasked_by_both_seeds(made: Forger) -> None:
    index = made.index("unmask.request")
    data = made.event(index).data.model_copy(update={"pair_of": ("site-a",)})
    made.change(index, data=data)
    made.resign()


def survivor_left_out_of_the_aggregate(made: Forger) -> None:
    index = made.index("aggregate.published")
    data = made.event(index).data
    assert isinstance(data, of.AggregatePublished)
    made.change(index, data=data.model_copy(update={"inputs": data.inputs[:-1]}))
    made.resign()


def other_model_released(made: Forger) -> None:
    index = made.index("model.released")
    made.change(index, data=of.ModelReleased(adapter="0" * 64, rounds=2))
    made.resign()


def member_invented(made: Forger) -> None:
    index = made.index("site.enrolled", which=3)
    data = made.event(index).data.model_copy(update={"site": "site-x"})
    made.change(index, data=data)
    made.resign()


def member_given_another_key(made: Forger) -> None:
    index = made.index("site.enrolled", which=3)
    other = NoteSigner.from_seed("site-d", seed_of("rogue")).vkey
    made.change(index, data=made.event(index).data.model_copy(update={"event_vkey": other}))
    made.resign()


def consent_faked_in_the_request(made: Forger) -> None:
    """Only two consented; the request claims three."""
    index = made.index("survivors.agreed", "site-c", which=1)
    del made.notes[index : index + 2]
    made.resign()


REWRITES: list[tuple[str, Callable[[Forger], None]]] = [
    ("E2", edited_event),
    ("E6", edited_and_signed_anew),
    ("E7", edited_with_the_whole_chain),
    ("E7", events_reordered),
    ("E5", event_of_a_site_omitted),
    ("R4", receipt_omitted),
    ("E4", event_replayed),
    ("E3", event_spliced_from_another_log),
    ("E2", signature_forged),
    ("G45", second_signature_line),
    ("E1", not_canonical),
    ("E1", duplicate_key),
    ("E1", smuggled_field),
    ("P1", record_number_in_the_run_id),
    ("U2", unmasked_by_both_seeds),
    ("A1", survivor_left_out_of_the_aggregate),
    ("M1", other_model_released),
    ("K1", member_invented),
    ("K1", member_given_another_key),
    ("U1", consent_faked_in_the_request),
]


@pytest.mark.parametrize(("check", "rewrite"), REWRITES, ids=lambda value: getattr(value, "__name__", value))
def test_rewritten_log_is_named(check: str, rewrite: Callable[[Forger], None], tmp_path: Path) -> None:
    made = forger()
    rewrite(made)
    verdict = made.judge(tmp_path / "bundle")
    assert check in failed(verdict)
    assert verdict.checks[check].first is not None
    assert verdict.checks["C1"].result == "pass", "the rewriter sealed its log well"


# -- files, heads, keys


def test_own_tail_rewritten_with_no_one_to_refer_to_it_needs_a_head(tmp_path: Path) -> None:
    """The limit of an audit without heads: last words that no site built on can be cut off."""
    made = forger()
    index = made.index("run.closed")
    del made.notes[index]
    assert made.judge(tmp_path / "bundle").verdict == "pass"
    heads = tmp_path / "heads" / "site-a"
    heads.mkdir(parents=True)
    (heads / "checkpoint").write_bytes(clean_log().checkpoint())
    verdict = made.judge(tmp_path / "bundle", heads.parent)
    assert failed(verdict) == {"C6"}


def test_forked_log_is_found_by_one_honest_head(tmp_path: Path) -> None:
    """Two histories that part in round 2, each lawful and sealed: site-b was shown the other one."""
    shown = StudyLog().play(2)
    heads = tmp_path / "heads"
    heads.mkdir()
    (heads / "site-b.checkpoint").write_bytes(clean_log().checkpoint())
    assert len(shown.entries) > len(clean_log().entries)
    assert Forger(shown).judge(tmp_path / "bundle").verdict == "pass", "alone, the fork is lawful"
    assert failed(Forger(shown).judge(tmp_path / "bundle", heads)) == {"C4", "C6"}


def test_earlier_head_of_the_same_history_passes(tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    heads.mkdir()
    tree = Tree.of_data(entry.note for entry in clean_log().entries[:60])
    note = sign_checkpoint(Checkpoint(ORIGIN, tree.size, tree.root()), clean_log().log_signer)
    (heads / "site-b.checkpoint").write_bytes(note)
    verdict = forger().judge(tmp_path / "bundle", heads)
    assert (verdict.verdict, verdict.checks["C6"].count) == ("pass", 1)


def test_head_not_signed_by_the_log_is_c6(tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    heads.mkdir()
    (heads / "site-b.checkpoint").write_bytes(NoteSigner.generate(ORIGIN).sign("junk\n"))
    assert failed(forger().judge(tmp_path / "bundle", heads)) == {"C6"}


def test_refusal_kept_out_of_the_log_is_j1(tmp_path: Path) -> None:
    heads = tmp_path / "heads" / "site-c"
    heads.mkdir(parents=True)
    row = {"time": "2026-03-01T00:00:00Z", "step": "plan", "reason": "policy", "round": 1, "sid": None}
    (heads / "journal.jsonl").write_text(json.dumps(row) + "\n" + '{"torn')
    verdict = forger().judge(tmp_path / "bundle", heads.parent)
    assert failed(verdict) == {"J1"}
    log = StudyLog().set_up()
    log.plan()
    log.refuse("site-c", "plan", "policy", round=1)
    verdict = Forger(log).judge(tmp_path / "bundle", heads.parent)
    assert verdict.verdict == "pass"
    assert verdict.checks["J1"].count == 1


def test_forged_head_is_c2(tmp_path: Path) -> None:
    made = forger()
    folder = made.seal(tmp_path / "bundle")
    tree = Tree.of_data(made.notes)
    fake = sign_checkpoint(Checkpoint(ORIGIN, tree.size, tree.root()), NoteSigner.generate(ORIGIN))
    edit_file(folder, "checkpoint", lambda _: fake)
    assert {"C2", "B1"} <= failed(_verify(made, folder))


def test_cut_log_under_its_old_head_is_c5(tmp_path: Path) -> None:
    made = forger()
    folder = made.seal(tmp_path / "bundle")
    name = next(p for p in (folder / "tile" / "entries").rglob("*") if p.is_file())
    name.unlink()
    assert {"C5", "B1"} <= failed(_verify(made, folder))


def test_charter_swapped_is_t1_and_g32(tmp_path: Path) -> None:
    other = StudyLog(5).play(1)
    verdict = Forger(other).judge(tmp_path / "bundle", trust=forger().trust)
    assert {"T1", "G32", "K1"} <= failed(verdict)


def test_charter_with_a_low_order_key_is_g32(tmp_path: Path) -> None:
    table = charter_table()
    weak = sorted(LOW_ORDER_KEYS)[0]
    blob = base64.b64encode(bytes([1]) + weak).decode()
    table["members"][0]["event_vkey"] = f"site-a+{key_id('site-a', 1, weak)}+{blob}"
    made = forger()
    folder = made.seal(tmp_path / "bundle")
    edit_file(folder, "charter.json", lambda _: rfc8785.dumps(table))
    assert {"G32", "T1", "B1"} <= failed(_verify(made, folder))


def test_further_and_missing_files_are_b1(tmp_path: Path) -> None:
    made = forger()
    folder = made.seal(tmp_path / "bundle", extra={"README": b"what this is"})
    assert _verify(made, folder).verdict == "pass"
    (folder / "notes.txt").write_text("x")
    assert failed(_verify(made, folder)) == {"B1"}
    (folder / "notes.txt").unlink()
    (folder / "README").unlink()
    assert failed(_verify(made, folder)) == {"B1"}
    (folder / "README").symlink_to("charter.json")
    assert failed(_verify(made, folder)) == {"B1"}


def test_manifest_of_a_stranger_is_b1(tmp_path: Path) -> None:
    made = forger()
    folder = made.seal(tmp_path / "bundle", signer=NoteSigner.generate("coordinator"))
    assert failed(_verify(made, folder)) == {"B1"}


def test_bundle_of_a_member_is_accepted(tmp_path: Path) -> None:
    made = forger()
    folder = made.seal(tmp_path / "bundle", signer=clean_log().authors["site-b"].signer)
    verdict = _verify(made, folder)
    assert (verdict.verdict, verdict.exporter) == ("pass", "site-b")


def test_unlawful_event_that_leads_to_no_state_never_raises(tmp_path: Path) -> None:
    """Garbage in lawful clothes: each type of event, at the very start of a log."""
    whole = clean_log()
    for type_ in sorted({entry.event.type for entry in whole.entries} - {"log.genesis"}):
        made = forger()
        index = made.index(type_)
        made.notes = [made.notes[0], made.notes[index], *made.notes[1:20]]
        assert failed(made.judge(tmp_path / "bundle"))


def _verify(made: Forger, folder: Path, **given: Any) -> Verdict:
    return verify_bundle(folder, made.trust, **given)

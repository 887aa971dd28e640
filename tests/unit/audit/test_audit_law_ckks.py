"""The law under CKKS: the sum is what the holder of the key signed, and the log shows it (R6.16.8)."""

from __future__ import annotations

from typing import Any

import pytest
import rfc8785

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import CharterError, LawError
from fedmedlora_audit.events import Object, parse_event
from fedmedlora_audit.law import RULES, Session, State, check
from fedmedlora_audit.law.ckks_rules import publishes_what_was_decrypted
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_testkit.audit_log import StudyLog, charter_table, digest_of

CONTEXT = digest_of("context")


def secure(custody: dict[str, Any]) -> dict[str, Any]:
    """The charter's section with a key custody."""
    section: dict[str, Any] = charter_table()["secure_aggregation"]
    return {**section, "mode": "ckks", "ckks": {"context": CONTEXT, **custody}}


def log_of(custody: str, holder: str = "") -> StudyLog:
    """A log of four sites, played until shares and sums are awaited."""
    log = StudyLog(secure_aggregation=secure({"custody": custody, "holder": holder}))
    log.set_up().to_step("unmask")
    return log


def blob(log: StudyLog, role: str, digest: str) -> dict[str, Any]:
    item = Object.model_validate({"role": role, "digest": digest, "bytes": 1000})
    return {"round": log.number, "objects": [item]}


def answer(log: StudyLog, site: str, digest: str, role: str = "decrypted-sum") -> None:
    log.say(site, "unmask.response", log.response_data(), **blob(log, role, digest))


def publish(log: StudyLog, digest: str) -> bytes:
    return log.draft(
        "coordinator", "aggregate.published", log.published_data(), **blob(log, "ring-sum", digest)
    )


def refused(log: StudyLog, note: bytes) -> str:
    with pytest.raises(LawError) as caught:
        check(log.state, parse_event(note).event, leaf_hash(note))
    return str(caught.value.check)


SUM, OTHER = digest_of("sum"), digest_of("another sum")


def test_the_holders_sum_is_published() -> None:
    log = log_of("holder", "site-b")
    assert log.terms.suite == "ckks/1"
    for site in ("site-a", "site-c"):
        answer(log, site, digest_of(site), "opened-shares")
    answer(log, "site-b", SUM)
    log.add(publish(log, SUM))
    assert log.session.ring == SUM


def test_another_sum_than_the_holders_is_u6(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of("holder", "site-b")
    for site in ("site-a", "site-c", "site-d"):
        answer(log, site, digest_of(site), "opened-shares")
    assert refused(log, publish(log, SUM)) == "U6", "T have answered, but not the holder"
    answer(log, "site-b", SUM)
    note = publish(log, OTHER)
    assert refused(log, note) == "U6"
    rules = tuple(r for r in RULES["aggregate.published"] if r is not publishes_what_was_decrypted)
    monkeypatch.setitem(RULES, "aggregate.published", rules)
    log.add(note)
    assert log.session.ring == OTHER, "without the rule the coordinator's own sum would stand"


@pytest.mark.parametrize(("site", "role"), [("site-b", "opened-shares"), ("site-a", "decrypted-sum")])
def test_who_holds_the_key_decrypts_and_nobody_else(site: str, role: str) -> None:
    log = log_of("holder", "site-b")
    note = log.draft(site, "unmask.response", log.response_data(), **blob(log, role, SUM))
    assert refused(log, note) == "U6"


def test_a_shared_key_needs_the_threshold_of_identical_sums() -> None:
    log = log_of("shared")
    for site in ("site-a", "site-b"):
        answer(log, site, SUM)
    answer(log, "site-c", OTHER)
    assert refused(log, publish(log, SUM)) == "U6"
    answer(log, "site-d", SUM)
    assert refused(log, publish(log, OTHER)) == "U6"
    log.add(publish(log, SUM))
    assert log.session.ring == SUM


@pytest.mark.parametrize(
    ("custody", "named"),
    [
        ({"custody": "nobody", "holder": ""}, "custody"),
        ({"custody": "shared", "holder": "site-a"}, "holder"),
        ({"custody": "holder", "holder": "site-x"}, "member"),
        ({"custody": "holder", "holder": ""}, "holder"),
        ({"custody": "holder", "holder": "site-a", "context": "x"}, "context"),
    ],
)
def test_a_charter_that_does_not_say_who_holds_the_key_is_refused(
    custody: dict[str, Any], named: str
) -> None:
    """R6.16.5."""
    table = charter_table(secure_aggregation=secure(custody))
    with pytest.raises(CharterError, match=named):
        CharterTerms.from_json(rfc8785.dumps(table))


def test_masks_have_no_custody() -> None:
    assert StudyLog().terms.custody is None


# -- the difference of two sums


def second_set(log: StudyLog, erasing: tuple[str, ...]) -> bytes:
    """All four have agreed to one sum; some erase it; then a consent to a sum without site-d from that base.

    What the law cannot see: a holder of the key may have answered already, and the coordinator kept it.
    """
    first = log.session.sid
    log.abort("operator")
    for site in erasing:
        log.erase(site, first)
    for site in log.sites:
        log.state.unspent[site] = set()  # as if the rule that erasing comes first did not exist
    log.to_step("survivors", {"upload": ["site-d"]})
    return log.draft("site-a", "survivors.agreed", log.consent_data(), round=log.number)


@pytest.mark.parametrize(
    ("custody", "holder", "erasing"),
    [
        ("shared", "", ("site-a", "site-b", "site-c")),
        ("holder", "site-d", ("site-a", "site-b", "site-c")),
        ("holder", "site-a", ("site-b", "site-c", "site-d")),
    ],
)
def test_a_second_set_needs_the_erasure_of_everybody_who_could_have_decrypted(
    custody: str, holder: str, erasing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R6.16.10: T have erased, but not all who hold the key; the difference would be one site's update."""
    log = log_of(custody, holder)
    note = second_set(log, erasing)
    assert refused(log, note) == "G37"

    def rule_for_masks(self: State, session: Session, before: int) -> bool:
        return session.erased_unopened(before) >= self.terms.threshold

    monkeypatch.setattr(State, "cannot_be_opened", rule_for_masks)
    log.judge(note)  # under the rule for masks the second sum would be opened


@pytest.mark.parametrize(
    ("custody", "holder", "erasing"),
    [
        ("shared", "", ("site-a", "site-b", "site-c", "site-d")),
        ("holder", "site-d", ("site-d",)),
    ],
)
def test_a_second_set_is_allowed_once_nobody_can_decrypt_the_first(
    custody: str, holder: str, erasing: tuple[str, ...]
) -> None:
    log = log_of(custody, holder)
    log.judge(second_set(log, erasing))

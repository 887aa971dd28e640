"""One unlawful event more: a lawful log, an event that breaks a rule, its receipt, all well sealed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_testkit.audit_attacks import ATTACKS
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog
from fedmedlora_testkit.audit_zoo.cage import Scene, specimen

CHOSEN: Final[dict[str, Sequence[str]]] = {
    "event_of_another_run": (),
    "event_of_a_stranger": ("E2", "P1"),
    "event_with_an_uncharted_key": (),
    "site_speaks_before_enrolment": (),
    "author_skips_a_number": (),
    "author_names_another_previous_event": (),
    "author_saw_another_history": (),
    "what_an_author_saw_shrinks": (),
    "site_answers_what_it_has_not_seen": (),
    "reference_to_nothing": (),
    "event_without_receipt": (),
    "invented_member": (),
    "second_genesis": (),
    "revocation_without_a_rule": (),
    "rotation_to_a_key_that_nobody_proved_to_hold": (),
    "rotation_proven_for_another_log": (),
    "rotation_to_the_key_of_another_member": (),
    "rotation_back_to_an_old_key": (),
    "rotation_to_a_key_in_another_name": (),
    "witness_key_without_its_elders_consent": (),
    "event_under_the_key_before_the_rotation": (),
    "word_of_a_member_that_has_left": (),
    "round_with_fewer_members_than_the_threshold": (),
    "second_plan_of_a_round": (),
    "round_after_the_run": (),
    "acceptance_by_a_dropped_site": (),
    "upload_twice": (),
    "close_without_naming_the_silent": (),
    "survivors_with_an_invented_site": (),
    "survivors_without_a_received_upload": (),
    "late_upload_in_the_aggregate": ("A1",),
    "request_with_an_invented_consent": (),
    "consent_to_other_survivors_than_logged": (),
    "request_for_both_seeds_of_one_site": ("U3",),
    "request_for_the_pair_key_of_a_survivor": (),
    "second_request": (),
    "aggregate_without_enough_openings": (),
    "u2_with_other_shares_than_signed": (),
    "decrypted_sum_where_nobody_holds_a_key": (),
    "aggregate_leaves_one_out": (),
    "aggregate_with_an_impossible_weight": (),
    "acceptance_of_another_aggregate": (),
    "close_with_too_few_acceptances": ("R4",),
    "plan_from_another_adapter": (),
    "release_of_another_adapter": (),
    "quoted_head_of_another_history": (),
    "new_attempt_after_an_opening": (),
    "survivors_that_differ_by_one_from_an_opened_sum": (),
    "session_below_the_threshold": (),
    "upload_masked_with_another_u2": (),
    "u1_with_swapped_keys": (),
    "session_id_from_elsewhere": (),
    "second_consent_from_one_base": (),
    "shares_after_erasing": (),
    "more_votes_than_voters": (),
    "ready_with_a_commitment_to_no_graph": (),
    "evidence_of_an_unpublished_sum": (),
    "charge_in_a_study_without_a_budget": (),
    "charge_of_a_stranger": ("E2", "P1", "R1"),
    "charge_of_a_plan_not_accepted": (),
    "second_charge_after_the_upload": (),
    "upload_without_a_charge": (),
    "late_upload_without_a_charge": (),
    "upload_under_the_charge_of_an_earlier_round": (),
    "charge_with_another_delta": (),
    "charge_with_a_lower_rate": (),
    "charge_of_fewer_steps": (),
    "charge_with_more_noise_than_planned": (),
    "charge_with_weaker_noise": (),
    "charge_under_reported": (),
    "charge_of_each_round_by_itself": (),
    "charge_that_leaves_an_aborted_round_out": (),
    "charge_below_the_last_one": (),
    "charge_beyond_the_budget": (),
}
"""Name in the registry of unlawful events -> the further checks that see it; its own stands there."""


def _add(name: str) -> None:
    check, draft = ATTACKS[name]

    def make(folder: Path) -> Scene:
        log = StudyLog()
        note = draft(log)
        log.add(note, lawful=False)
        made = Forger(log)
        if len(log.entries) == 1:  # even the genesis is unlawful: the auditor was given this one
            made.trust = made.trust.model_copy(update={"genesis": leaf_hash(note).hex()})
        return Scene(made.seal(folder / "bundle"), made.trust)

    make.__doc__ = draft.__doc__
    specimen(check, *CHOSEN[name], name=name)(make)


for _name in CHOSEN:
    _add(_name)

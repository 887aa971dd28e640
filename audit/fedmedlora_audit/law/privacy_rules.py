"""Rules of the privacy budget: what a site may say it has spent, and when (PROTOCOL §4.13, AUDIT D1 to D5).

A charge names the mechanism of one training and what the study has cost so far at this site. Everything in
it is recomputed from the charter and the site's earlier charges. A site that trains again on other notes
charges again; a charge that arrives after its round is over counts all the same, for what a site wrote into
its ledger is spent.
"""

from collections.abc import Mapping
from typing import Final

from fedmedlora_audit.accountant import Mechanism
from fedmedlora_audit.errors import LawError
from fedmedlora_audit.event_data import DpSpent, UpdateSubmitted
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.rule import Rule, named_round, need
from fedmedlora_audit.law.state import Round, State
from fedmedlora_audit.privacy_plan import PrivacyPlan, Spending, figure


def has_a_budget(state: State, _event: Event, _data: DpSpent) -> None:
    """K1: only under a charter with a privacy budget is there anything to charge."""
    need(
        state.terms.privacy is not None, "K1", "no rule admits dp.spent under this charter: it has no budget"
    )


def charges_an_accepted_plan(state: State, event: Event, _data: DpSpent) -> None:
    """R1: a site charges the training of a plan that it accepted."""
    current = named_round(state, event)
    need(event.actor.id in current.accepted, "R1", f"{event.actor.id} charges a round it has not accepted")


def charges_before_it_uploads(state: State, event: Event, _data: DpSpent) -> None:
    """D5: what a site charges after its upload did not pay for that upload.

    An upload without any charge was named when it came (`upload_is_charged`), so that is not said twice.
    """
    current, site = named_round(state, event), event.actor.id
    late = site in current.charged and _uploaded(current, site)
    need(not late, "D5", f"{site} charges round {current.number} after its upload")


def charges_as_planned(state: State, event: Event, data: DpSpent) -> None:
    """D2: rate, steps and delta are the charter's, and the noise no other (less of it is D4)."""
    plan = _plan(state)
    for name, logged, planned in (
        ("delta", data.delta, plan.delta),
        ("sampling_micro", data.sampling_micro, plan.charge.sampling_micro),
        ("steps", data.steps, plan.charge.steps),
        ("noise_milli", max(data.noise_milli, plan.charge.noise_milli), plan.charge.noise_milli),
    ):
        need(logged == planned, "D2", f"{event.actor.id} charges {name} {logged}, the charter says {planned}")


def noise_is_not_less(state: State, event: Event, data: DpSpent) -> None:
    """D4: the noise is at least the charter's."""
    planned = _plan(state).charge.noise_milli
    enough = data.noise_milli >= planned
    need(enough, "D4", f"{event.actor.id} trained with noise {data.noise_milli}, the charter says {planned}")


def figure_is_recomputed(state: State, event: Event, data: DpSpent) -> None:
    """D1: epsilon is what all charges of this site in this log cost, by the auditor's own accountant.

    Of a charge that is not the charter's nobody can say which figure belongs to it: D2 or D4 names it. A
    wrong figure below the last one is D3's.
    """
    plan, before = _plan(state), _spending(state, event)
    charges = before.with_one(mechanism_of(data))
    if (
        not _is_planned(plan, data)
        or data.epsilon_milli < before.milli
        or plan.agrees(data.epsilon_milli, charges)
    ):
        return
    site, said, cost = event.actor.id, figure(data.epsilon_milli), plan.figure_of(charges)
    count = sum(charges.values())
    raise LawError("D1", f"{site} says that its charges cost epsilon {said}; {count} of them cost {cost}")


def never_decreases(state: State, event: Event, data: DpSpent) -> None:
    """D3: what was spent is never less than before; a right figure after a wrong one may be."""
    plan, before = _plan(state), _spending(state, event)
    if data.epsilon_milli < before.milli and not plan.agrees(
        data.epsilon_milli, before.with_one(mechanism_of(data))
    ):
        now, then = figure(data.epsilon_milli), figure(before.milli)
        raise LawError("D3", f"{event.actor.id} says that epsilon is {now}, after {then}")


def stays_within_the_budget(state: State, event: Event, data: DpSpent) -> None:
    """D3: all charges of this site cost no more than the budget, whatever figure is logged (R4.13.6)."""
    plan = _plan(state)
    charges = _spending(state, event).with_one(mechanism_of(data))
    if plan.overspends(charges):
        budget, cost = figure(plan.epsilon_milli), plan.figure_of(charges)
        raise LawError("D3", f"the charges of {event.actor.id} cost epsilon {cost}, the budget is {budget}")


def upload_is_charged(state: State, event: Event, _data: UpdateSubmitted) -> None:
    """D5: with a privacy budget nothing leaves a site that it has not charged in this round (R4.13.7)."""
    if state.terms.privacy is None:
        return
    charged = event.actor.id in named_round(state, event).charged
    need(charged, "D5", f"{event.actor.id} uploads without a charge (dp.spent) in round {event.round}")


def mechanism_of(data: DpSpent) -> Mechanism:
    """Return what a charge says was done."""
    return Mechanism(data.noise_milli, data.sampling_micro, data.steps)


def _plan(state: State) -> PrivacyPlan:
    plan = state.terms.privacy
    if plan is None:
        raise LawError("K1", "this charter has no budget")
    return plan


def _spending(state: State, event: Event) -> Spending:
    return state.spent.get(event.actor.id, Spending())


def _is_planned(plan: PrivacyPlan, data: DpSpent) -> bool:
    return mechanism_of(data) == plan.charge and data.delta == plan.delta


def _uploaded(current: Round, site: str) -> bool:
    return any(site in s.updates or ("update.submitted", site) in s.late for s in current.sessions)


RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "dp.spent": (
        has_a_budget,
        charges_an_accepted_plan,
        charges_before_it_uploads,
        charges_as_planned,
        noise_is_not_less,
        figure_is_recomputed,
        never_decreases,
        stays_within_the_budget,
    ),
}

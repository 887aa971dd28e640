"""Attacks on the privacy budget: charges that lie, come too late, or never come."""

from __future__ import annotations

from typing import Any

from fedmedlora_audit.chain import Author
from fedmedlora_audit.note import NoteSigner
from fedmedlora_testkit.audit_attacks.registry import attack, by_site
from fedmedlora_testkit.audit_charges import PRIVACY, charge_of
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, seed_of

SITE = "site-a"


def begin_private(log: StudyLog, **changes: Any) -> StudyLog:
    """Begin the log anew under a charter with a privacy budget, and set the study up."""
    StudyLog.__init__(log, privacy={**PRIVACY, **changes})
    return log.set_up()


def planned(log: StudyLog, **changes: Any) -> StudyLog:
    """A private study whose first plan everybody has accepted."""
    begin_private(log, **changes).plan()
    for site in log.sites:
        log.accept_plan(site)
    return log


def charge(log: StudyLog, **lies: Any) -> bytes:
    """Draft the next charge of the first site."""
    return by_site(log, SITE, "dp.spent", charge_of(log.state, SITE, **lies))


def cost(log: StudyLog, count: int) -> int:
    """What so many charges cost, in thousandths rounded up."""
    plan = log.terms.privacy
    assert plan is not None
    low = high = 0
    while not plan.agrees(high, {plan.charge: count}):
        low, high = high, high + 1
    return max(low, high)


# -- who charges, and when


@attack("K1")
def charge_in_a_study_without_a_budget(log: StudyLog) -> bytes:
    private = planned(StudyLog())
    log.set_up().plan()
    log.accept_plan(SITE)
    return by_site(log, SITE, "dp.spent", charge_of(private.state, SITE))


@attack("R2")
def charge_of_a_stranger(log: StudyLog) -> bytes:
    planned(log)
    author = Author("site-x", "site", NoteSigner.from_seed("site-x", seed_of("site-x")), ORIGIN)
    return log.draft("site-x", "dp.spent", charge_of(log.state, "site-x"), author=author, round=1)


@attack("R1")
def charge_of_a_plan_not_accepted(log: StudyLog) -> bytes:
    begin_private(log).plan()
    return charge(log)


@attack("R1")
def charge_of_a_round_never_planned(log: StudyLog) -> bytes:
    planned(log)
    return by_site(log, SITE, "dp.spent", charge_of(log.state, SITE), round=2)


@attack("E7")
def charge_for_a_plan_it_has_not_seen(log: StudyLog) -> bytes:
    begin_private(log)
    head = log.head()
    log.plan()
    for site in log.sites:
        log.accept_plan(site)
    log.state.seen[SITE] = 0
    return by_site(log, SITE, "dp.spent", charge_of(log.state, SITE), saw=head)


@attack("D5")
def second_charge_after_the_upload(log: StudyLog) -> bytes:
    begin_private(log).to_step("upload")
    log.upload(SITE)
    return charge(log)


@attack("D5")
def second_charge_after_a_late_upload(log: StudyLog) -> bytes:
    begin_private(log).to_step("unmask", {"upload": [SITE]})
    log.upload(SITE)
    return charge(log)


def uncharged(log: StudyLog, drop: bool = False) -> StudyLog:
    """A private study at the uploads of a round that the first site has not charged."""
    planned(log)
    log.ready_uncharged(SITE)
    for site in log.sites[1:]:
        log.ready(site)
    log.open_session()
    while log.session.step != ("survivors" if drop else "upload"):
        log.answer_all({SITE} if log.session.step == "upload" else set())
        log.coordinate()
    return log


@attack("D5")
def upload_without_a_charge(log: StudyLog) -> bytes:
    uncharged(log)
    return by_site(log, SITE, "update.submitted", log.update_data(), "masked-update")


@attack("D5")
def late_upload_without_a_charge(log: StudyLog) -> bytes:
    uncharged(log, drop=True)
    return by_site(log, SITE, "update.submitted", log.update_data(), "masked-update")


@attack("D5")
def upload_under_the_charge_of_an_earlier_round(log: StudyLog) -> bytes:
    begin_private(log).play_round()
    log.plan()
    for site in log.sites:
        log.accept_plan(site)
    log.ready_uncharged(SITE)
    for site in log.sites[1:]:
        log.ready(site)
    log.open_session()
    while log.session.step != "upload":
        log.answer_all(set())
        log.coordinate()
    return by_site(log, SITE, "update.submitted", log.update_data(), "masked-update")


# -- what is charged


@attack("D2")
def charge_with_another_delta(log: StudyLog) -> bytes:
    return charge(planned(log), delta="1e-4")


@attack("D2")
def charge_with_a_lower_rate(log: StudyLog) -> bytes:
    return charge(planned(log), sampling_micro=10_000)


@attack("D2")
def charge_of_fewer_steps(log: StudyLog) -> bytes:
    return charge(planned(log), steps=49)


@attack("D2")
def charge_with_more_noise_than_planned(log: StudyLog) -> bytes:
    return charge(planned(log), noise_milli=1001)


@attack("D4")
def charge_with_weaker_noise(log: StudyLog) -> bytes:
    return charge(planned(log), noise_milli=999)


@attack("D1")
def charge_under_reported(log: StudyLog) -> bytes:
    planned(log)
    return charge(log, epsilon_milli=cost(log, 1) - 1)


@attack("D1")
def charge_over_reported(log: StudyLog) -> bytes:
    planned(log)
    return charge(log, epsilon_milli=cost(log, 1) + 1)


@attack("D1")
def charge_of_each_round_by_itself(log: StudyLog) -> bytes:
    planned(log).charge(SITE)
    return charge(log, epsilon_milli=cost(log, 1))


@attack("D1")
def charge_that_leaves_an_aborted_round_out(log: StudyLog) -> bytes:
    begin_private(log).play_round()
    log.to_step("survivors")
    log.abort()
    log.plan()
    log.accept_plan(SITE)
    return charge(log, epsilon_milli=cost(log, 2))


@attack("D3")
def charge_below_the_last_one(log: StudyLog) -> bytes:
    planned(log).charge(SITE)
    return charge(log, epsilon_milli=cost(log, 1) - 1)


@attack("D3")
def charge_beyond_the_budget(log: StudyLog) -> bytes:
    planned(log, epsilon_milli=1700).charge(SITE)
    return charge(log)

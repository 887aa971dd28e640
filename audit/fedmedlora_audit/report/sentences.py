"""The report's sentences: what a verdict means, for readers who are no cryptographers (AUDIT "Report")."""

from collections.abc import Sequence
from typing import Final

from fedmedlora_audit.charter import CKKS_SUITE, CharterTerms
from fedmedlora_audit.privacy_plan import PrivacyPlan, figure
from fedmedlora_audit.report.model import CheckRow
from fedmedlora_audit.verdict import Verdict

LIMITS: Final = (
    "What happened inside a hospital: how good its notes are, whether its upload came from real training.",
    "A message that neither the hospital nor the coordinator recorded.",
    "That a hospital formed its masked upload honestly.",
    "A history that the coordinator and all hospitals rewrote together.",
    "That the keys are the hospitals' own, unless their fingerprints were compared with them by telephone.",
)
"""What no audit of a log can show."""
NO_PRIVACY: Final = ("That the model remembers no training text: the study has no differential privacy.",)
PRIVACY_LIMITS: Final = (
    "That a hospital clipped and added noise as it logged: its software does that out of sight.",
    "What the same patients' notes cost in other studies: only each hospital's own ledger adds that up.",
    "That epsilon is small enough: how much of a patient the model may show is a decision of people.",
)
"""What is left open of what a model remembers, without a privacy budget and with one."""


def headline_of(verdict: Verdict, checks: Sequence[CheckRow]) -> str:
    """Say the verdict in one sentence."""
    failed = [row.id for row in checks if row.result == "fail"]
    if verdict.verdict == "pass":
        return "The log passes."
    if verdict.verdict == "fail":
        names = ", ".join(failed) or "the charter could not be applied"
        return f"The log fails: {len(failed)} of {len(checks)} checks found something wrong ({names})."
    unmade = [row.id for row in checks if row.demanded and row.result == "not judged"]
    return f"The log could not be judged in full: {', '.join(unmade)} had too little to go by."


def meaning_of(verdict: Verdict, checks: Sequence[CheckRow]) -> str:
    """Say what the verdict means and what to do."""
    unjudged = sum(row.result == "not judged" for row in checks)
    rest = f" {unjudged} checks were not judged; section 3 says why." if unjudged else ""
    if verdict.verdict == "pass":
        return (
            f"{verdict.events} signed events were checked from files alone, with keys from the trust file. "
            "Nothing was changed, left out or put in a wrong order, and no rule of the study was broken, "
            f"as far as the checks below reach.{rest}"
        )
    if verdict.verdict == "fail":
        return (
            "At least one thing is not as the study's rules demand. Section 3 lists each with the event or "
            "file to blame. Keep this bundle as it is, do not rely on the released model, and ask the party "
            f"named; exporting again tells a damaged copy from a changed log.{rest}"
        )
    return (
        "Nothing wrong was found, but the study's charter asks for checks that could not be made with these "
        "files. This is not a pass. Section 3 says what is missing; judge again when it has been handed in."
    )


def secured_by(terms: CharterTerms | None) -> str:
    """Say how uploads are hidden."""
    if terms is None:
        return "not known: the charter could not be read"
    if terms.suite == CKKS_SUITE:
        return "encryption (CKKS): only who holds the key can open a sum"
    if terms.suite == "plain/1":
        return "nothing: the coordinator could read every upload"
    return "masks that cancel in the sum alone (double masking)"


def privacy_of(verdict: Verdict) -> str:
    """Say what is known of the privacy budget."""
    if verdict.terms is None:
        return "Whether the study has a privacy budget is not known: its charter could not be read."
    if verdict.terms.privacy is None and verdict.terms.site_noise is not None:
        sites = verdict.checks["D6"]
        said = sites.sentence if sites.result == "pass" else "Check D6 did not pass: see section 3."
        return (
            "For hospitals as a whole, not for patients: noise inside every sum hides whether a hospital's "
            f"update was in it. {said}"
        )
    if verdict.terms.privacy is None:
        return (
            "None. The study has no differential privacy: there is no budget (epsilon) to spend or to "
            "exceed, and the released model may remember training text."
        )
    budget = _budget(verdict.terms.privacy)
    results = {verdict.checks[name].result for name in verdict.checks if name.startswith("D")}
    if results != {"pass"}:
        return f"{budget} Checks D1 to D5 did not all pass: see section 3."
    spent = verdict.state.spent.values() if verdict.state is not None else ()
    most = max((spending.milli for spending in spent), default=0)
    shortage = verdict.terms.privacy.shortage(verdict.terms.rounds)
    return (
        f"{budget}{shortage and ' ' + shortage} The most that any one hospital has spent in this log is "
        f"epsilon {figure(most)}; that was recomputed from the logged noise, rate and steps, and lies within "
        "the budget."
    )


def _budget(plan: PrivacyPlan) -> str:
    return (
        f"The study has a privacy budget: epsilon {figure(plan.epsilon_milli)} at delta {plan.delta} "
        f"for each {plan.unit}, over all rounds."
    )


def limits_of(verdict: Verdict, checks: Sequence[CheckRow]) -> tuple[str, ...]:
    """Say what this audit does not prove: what none can, and what this one had no material for."""
    own = []
    if not verdict.fetched:
        own.append(
            "That this is the whole log: without heads fetched from the hospitals, last words of the "
            "coordinator that nobody has built on can be cut off unseen."
        )
    if verdict.terms is not None:
        own += NO_PRIVACY if verdict.terms.privacy is None else PRIVACY_LIMITS
    if verdict.terms is not None and verdict.terms.suite == "plain/1":
        own.append("That uploads were hidden: this study did not mask them.")
    own += [
        f"Not judged, {row.id}: {row.remark or row.claim}" for row in checks if row.result == "not judged"
    ]
    return (*LIMITS, *own)

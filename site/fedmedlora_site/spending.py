"""Whether the next private training may be, and what is written down before it begins (R4.13.4 to R4.13.7).

Two accounts: what this study costs, against the charter's `epsilon_milli`, and what all studies in the
ledger cost, against the site's own budget where its policy sets one. A round that would pass either is
refused before it trains. A charge goes into the ledger first, durably; then its `dp.spent` is signed, and
training begins when that stands in the log. A training whose name stands in the ledger is the same one again.

How units compose: not at all. A guarantee for each document says nothing of a patient who has many, and one
for the coming or going of a patient is not one for the exchange of one of several documents. The site's
budget counts one unit; a ledger that holds charges by the other one has no figure, and training is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedmedlora_audit.chain import event_time
from fedmedlora_audit.event_data import DpSpent
from fedmedlora_audit.events import Event
from fedmedlora_core.errors import DataError, PolicyRefusal
from fedmedlora_core.policy import PrivacyPolicy
from fedmedlora_core.privacy_terms import ORDERS, PrivacyTerms
from fedmedlora_core.private_job import job_digest, machine_of
from fedmedlora_core.records import check_structure, iter_checked
from fedmedlora_core.splits import unit_key
from fedmedlora_core.study import Study
from fedmedlora_site.accounting import spent_milli
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.durable import create_private
from fedmedlora_site.errors import FolderError, StepRefusal
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.ledger import Charge, Ledger

OVER_BUDGET = "over_budget"


@dataclass(frozen=True)
class Account:
    """A limit and how charges are counted against it.

    Args:
        owner: Whose budget it is, for people.
        unit: Whom it protects.
        delta: Of (epsilon, delta).
        orders: Renyi orders that are minimised over.
        limit_milli: The budget in thousandths; None where there is none.
        charter: Digest of the charter whose charges count; empty for those of all studies.
    """

    owner: str
    unit: str
    delta: str
    orders: tuple[int, ...]
    limit_milli: int | None
    charter: str = ""

    def counted(self, charges: Iterable[Charge]) -> list[Charge]:
        """The charges that count here."""
        return [charge for charge in charges if self.charter in ("", charge.charter)]

    def spent_milli(self, charges: Iterable[Charge]) -> int:
        """What the charges that count here cost together, in thousandths, rounded up."""
        return spent_milli(self.counted(charges), delta=self.delta, orders=self.orders)

    def objection(self, charges: Sequence[Charge], new: Sequence[Charge], what: str) -> str | None:
        """Say why new charges do not fit; None if they do."""
        if self.limit_milli is None:
            return None
        others = {charge.unit for charge in (*self.counted(charges), *new)} - {self.unit}
        if others:
            return (
                f"{self.owner} is by {self.unit}, and the ledger holds charges by {others.pop()}, "
                "which cannot be counted in it"
            )
        spent = self.spent_milli(charges)
        then = self.spent_milli([*charges, *new])
        if then <= self.limit_milli:
            return None
        return (
            f"{self.owner} is epsilon {_figure(self.limit_milli)} at delta {self.delta}; "
            f"{_figure(spent)} is spent and {what} costs {_figure(then - spent)}, together {_figure(then)}"
        )


def accounts_of(study: Study | None, policy: PrivacyPolicy) -> tuple[Account, ...]:
    """The site's account, and that of a study with differential privacy."""
    own = Account("this site's budget", policy.unit, policy.delta, ORDERS, policy.epsilon_milli)
    if study is None or study.privacy is None:
        return (own,)
    terms = study.privacy
    return own, Account(
        "the study's budget", terms.unit, terms.delta, terms.orders, terms.epsilon_milli, study.digest
    )


def ledger_of(folder: SiteFolder, config: SiteConfig) -> Ledger:
    """The ledger of a site folder: its own, or the one that `site.toml` names (relative to the folder)."""
    named = config.privacy.ledger
    return Ledger(folder.root / named if named else folder.ledger, folder.ledger_head)


def planned_charges(study: Study, charges: Sequence[Charge], site: str) -> list[Charge]:
    """What the rounds of a study that were never charged at a site will be charged, in order."""
    if study.privacy is None:
        return []
    charged = {c.round for c in charges if (c.charter, c.site) == (study.digest, site)}
    left = [number for number in range(1, study.training.rounds + 1) if number not in charged]
    return [_charge(study, study.privacy, site, number, bytes(32)) for number in left]


def judge_plan(study: Study, policy: PrivacyPolicy, ledger: Ledger, site: str) -> None:
    """Refuse a study whose planned rounds cannot fit with what is spent (R4.13.6).

    Raises:
        PolicyRefusal: With the figures, reason "policy".
        FolderError: The ledger was changed.
        SiteError: dp-accounting is not installed.
    """
    if study.privacy is None:
        return
    charges = ledger.charges()
    new = planned_charges(study, charges, site)
    for account in accounts_of(study, policy):
        sentence = account.objection(charges, new, f"the plan of {len(new)} round(s)")
        if sentence is not None:
            raise PolicyRefusal("policy", f"policy: {sentence}")


class Spending:
    """The charges of one accepted study at one site.

    Args:
        study: The study; it has differential privacy.
        policy: The site's table `privacy`.
        ledger: Where charges are written.
        keys: The site's secrets.
        notes: The file of notes.
        device: Where the model computes.
    """

    def __init__(
        self,
        study: Study,
        policy: PrivacyPolicy,
        ledger: Ledger,
        keys: Keystore,
        notes: Path,
        *,
        device: str = "auto",
    ) -> None:
        """Keep the parts; read nothing yet."""
        if study.privacy is None:
            raise ValueError("a study without differential privacy spends nothing")
        self._study, self._terms, self._ledger = study, study.privacy, ledger
        self._keys, self._notes, self._site = keys, notes, keys.site
        self._accounts = accounts_of(study, policy)
        self._written: set[str] = set()  # durable for certain: by this process
        self._all_told = False
        self._machine = machine_of(device)

    @classmethod
    def of(
        cls,
        study: Study,
        policy: PrivacyPolicy,
        ledger: Ledger,
        keys: Keystore,
        notes: Path,
        *,
        device: str = "auto",
    ) -> Spending | None:
        """Open the charges of a study; None for one without differential privacy."""
        return None if study.privacy is None else cls(study, policy, ledger, keys, notes, device=device)

    def job(self, round_number: int, base: str) -> bytes:
        """Digest everything that decides the training of a round, with the notes as they are now."""
        return job_digest(
            charter=self._study.digest,
            round_number=round_number,
            base=base,
            notes=self._notes.read_bytes(),
            machine=self._machine,
        )

    def judge(self, step: str, round_number: int, base: str) -> None:
        """Refuse a round that would pass a budget; writes nothing.

        Raises:
            StepRefusal: With the figures, reason "over_budget".
        """
        charge = self._charge(round_number, self.job(round_number, base))
        charges = self._ledger.charges()
        if charge.job not in {c.job for c in charges}:
            self._need_room(step, charges, charge)

    def charge(self, round_number: int, base: str) -> tuple[bytes, bool]:
        """Write the charge of a training, unless it stands there already (R4.13.5).

        Returns:
            (what `job` says, whether the charge is a new one).

        Raises:
            StepRefusal: It would pass a budget.
            OSError: It may not be on the disk; the training must not begin.
        """
        job = self.job(round_number, base)
        charge = self._charge(round_number, job)
        if charge.job in self._written:
            return job, False
        self._all_told = False
        # One holder from the reading to the writing: two folders must not both find the last room.
        with self._ledger.writing() as writer:
            if charge.job in {c.job for c in writer.charges}:
                writer.renew()
                new = False
            else:
                self._need_room("train", writer.charges, charge)
                self._need_units()
                writer.add(charge)
                new = True
        self._written.add(charge.job)
        return job, new

    def untold(self, events: Iterable[Event]) -> tuple[int, DpSpent] | None:
        """Return the oldest charge of this study whose event was not signed yet: (round, its data).

        Args:
            events: This site's own events, oldest first.

        Raises:
            FolderError: Events were signed whose charges are not in the ledger.
        """
        if self._all_told:
            return None
        told = [event for event in events if event.type == "dp.spent"]
        own = self._own_charges()
        for place, event in enumerate(told):
            if place >= len(own) or not _is_of(event, own[place]):
                raise FolderError(
                    f"{self._ledger.path}: does not hold charge {place + 1} of this study as this "
                    "site signed it; an older or changed ledger must not be used"
                )
        self._all_told = len(told) == len(own)
        return None if self._all_told else self._said(own, len(told))

    def noise_key(self, job: bytes) -> bytes:
        """Derive the key of a training's draws and noise (R4.13.4)."""
        return self._keys.noise_key(job)

    def _need_units(self) -> None:
        """Refuse notes that do not say whose they are before they cost anything (R4.13.3)."""
        try:
            for note in iter_checked(self._notes, check_structure):
                unit_key(note, self._terms.unit)
        except DataError as exc:
            raise StepRefusal("train", "training_failed", f"{exc}; nothing was charged") from None

    def _own_charges(self) -> list[Charge]:
        own = (self._study.digest, self._site)
        return [charge for charge in self._ledger.charges() if (charge.charter, charge.site) == own]

    def _said(self, own: Sequence[Charge], place: int) -> tuple[int, DpSpent]:
        """What the log hears of a charge: its mechanism, and what the study has cost up to it (R4.13.7)."""
        charge, terms = own[place], self._terms
        data = DpSpent(
            delta=charge.delta,
            epsilon_milli=spent_milli(own[: place + 1], delta=terms.delta, orders=terms.orders),
            mechanism="dp-sgd",
            noise_milli=charge.noise_milli,
            sampling_micro=charge.sampling_micro,
            steps=charge.steps,
        )
        return charge.round, data

    def _need_room(self, step: str, charges: Sequence[Charge], new: Charge) -> None:
        for account in self._accounts:
            sentence = account.objection(charges, [new], f"round {new.round}")
            if sentence is not None:
                raise StepRefusal(step, OVER_BUDGET, sentence)

    def _charge(self, round_number: int, job: bytes) -> Charge:
        return _charge(self._study, self._terms, self._site, round_number, self._keys.ledger_name(job))


@contextmanager
def handed_over(spending: Spending | None, job: bytes, path: Path) -> Iterator[None]:
    """Lay the noise key of a private training where its process finds it, for as long as it runs."""
    path.unlink(missing_ok=True)  # of a training that was killed
    if spending is not None:
        create_private(path, spending.noise_key(job))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _charge(study: Study, terms: PrivacyTerms, site: str, round_number: int, name: bytes) -> Charge:
    return Charge(
        study=study.study.id,
        charter=study.digest,
        site=site,
        round=round_number,
        job=name.hex(),
        unit=terms.unit,
        delta=terms.delta,
        noise_milli=terms.noise_milli,
        sampling_micro=terms.sampling_micro,
        steps=terms.steps,
        time=event_time(datetime.now(UTC)),
    )


def _is_of(event: Event, charge: Charge) -> bool:
    """Whether an event tells a charge; what the study had cost by then follows from all of them."""
    data = event.data
    return isinstance(data, DpSpent) and (
        (event.round, data.delta, data.noise_milli, data.sampling_micro, data.steps)
        == (charge.round, charge.delta, charge.noise_milli, charge.sampling_micro, charge.steps)
    )


def _figure(milli: int) -> str:
    return f"{milli / 1000:.3f}"

"""The site's policy: what this hospital agrees to, whatever a study or a message says (PROTOCOL §2.2).

The policy can refuse a charter; it never replaces one of its values, because a site that computes with other
constants than the rest breaks the sum for all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from fedmedlora_core.config import Section, load_toml
from fedmedlora_core.errors import PolicyRefusal
from fedmedlora_core.privacy_terms import Delta, PrivacyTerms, Unit
from fedmedlora_core.secure_aggregation import CkksTerms, Hex32, NotNegative, Positive
from fedmedlora_core.study import Study


class PrivacyPolicy(Section):
    """The table `privacy` of `policy.toml`: what all studies together may cost this site's patients.

    Attributes:
        required: Refuse a study without differential privacy.
        epsilon_milli: The site's budget over all studies in its ledger, in thousandths; None sets none, and
            each study's own budget is all that holds.
        delta: Of (epsilon, delta), for the budget.
        unit: Whom the budget protects; a study that protects another unit is refused.
    """

    required: bool = False
    epsilon_milli: Positive | None = None
    delta: Delta = "1e-5"
    unit: Unit = "patient"


class SitePolicy(Section):
    """The site's `policy.toml`; every key has a safe default.

    Attributes:
        studies: Study ids this site may join; empty allows any that its operator accepts.
        base_models: Digests of base models this site runs; empty allows any that its operator has on disk.
        secure_aggregation_required: Refuse a study whose updates would travel unmasked.
        min_sites: Fewest sites in a sum this site takes part in; at least 3.
        min_colluding_sites: Refuse a charter that withstands fewer colluding members than this.
        max_rounds: Most rounds of one study.
        exact_weights_allowed: Accept a study whose weights are exact sizes (see the study's warning).
        ckks_key_holder: The member that this site lets hold the only CKKS key; empty refuses everybody.
        ckks_shared_key_allowed: Accept a study in which every member holds the CKKS key.
        privacy: The site's own privacy budget.
    """

    studies: tuple[str, ...] = ()
    base_models: tuple[Hex32, ...] = ()
    secure_aggregation_required: bool = True
    min_sites: Annotated[int, Field(ge=3)] = 3
    min_colluding_sites: NotNegative = 1
    max_rounds: Positive = 100
    exact_weights_allowed: bool = False
    ckks_key_holder: str = ""
    ckks_shared_key_allowed: bool = False
    privacy: PrivacyPolicy = PrivacyPolicy()

    @classmethod
    def load(cls, path: Path) -> SitePolicy:
        """Read `policy.toml`.

        Raises:
            ConfigError: The file is missing, not TOML, or has an unknown key.
        """
        return load_toml(path, cls)

    # R2.2.2: it raises or returns nothing, so it cannot put another value in a charter's place.
    def judge(self, study: Study) -> None:
        """Refuse a study that this policy does not allow.

        Raises:
            PolicyRefusal: Always with reason "policy" and a sentence for this site's operator.
        """
        terms = study.secure_aggregation
        if self.studies and study.study.id not in self.studies:
            self._refuse(f"study '{study.study.id}' is not in this site's list of studies")
        if self.base_models and study.model.digest not in self.base_models:
            self._refuse(f"base model {study.model.digest[:12]}… is not in this site's list")
        if self.secure_aggregation_required and terms.mode == "none":
            self._refuse("this site requires secure aggregation, the study has it off")
        if terms.min_sites < self.min_sites:
            self._refuse(
                f"the study sums over {terms.min_sites} sites or more, this site requires {self.min_sites}"
            )
        if terms.colluding_sites < self.min_colluding_sites:
            self._refuse(
                f"the study withstands {terms.colluding_sites} colluding sites, this site requires "
                f"{self.min_colluding_sites}"
            )
        if study.training.rounds > self.max_rounds:
            self._refuse(f"the study has {study.training.rounds} rounds, this site allows {self.max_rounds}")
        if study.aggregation.weights == "exact" and not self.exact_weights_allowed:
            self._refuse("the study uses exact weights, which this site does not allow")
        if terms.ckks is not None:
            self._judge_custody(terms.ckks)
        self._judge_privacy(study.privacy)

    def _judge_custody(self, ckks: CkksTerms) -> None:
        """Refuse a custody of the CKKS key that this site has not named (R6.16.5)."""
        if ckks.custody == "shared" and not self.ckks_shared_key_allowed:
            self._refuse(
                "every member would hold the CKKS key and could read this site's single updates; "
                "ckks_shared_key_allowed is false"
            )
        if ckks.custody == "holder" and ckks.holder != self.ckks_key_holder:
            self._refuse(
                f"'{ckks.holder}' would hold the CKKS key and could read this site's single updates; "
                f"ckks_key_holder names {self.ckks_key_holder or 'nobody'}"
            )

    def _judge_privacy(self, terms: PrivacyTerms | None) -> None:
        """Refuse what this site's budget cannot hold whatever was spent before (R4.13.6)."""
        own = self.privacy
        if terms is None:
            if own.required:
                self._refuse("this site requires differential privacy, the study has none")
            return
        if own.epsilon_milli is None and not own.required:
            return
        if terms.unit != own.unit:
            # No conversion: a patient can have many documents, and exchanging one of a patient's documents is
            # not the coming or going of the patient.
            self._refuse(f"the study protects each {terms.unit}, this site's budget is by {own.unit}")
        if own.epsilon_milli is None:
            return
        if float(terms.delta) > float(own.delta):
            self._refuse(f"the study's delta is {terms.delta}, this site's budget has {own.delta}")
        # With a smaller delta than the budget's the study's figure is the stricter one: the ledger decides.
        if terms.epsilon_milli > own.epsilon_milli and terms.delta == own.delta:
            self._refuse(
                f"the study may spend epsilon {terms.epsilon_milli / 1000:g}, "
                f"this site's whole budget is {own.epsilon_milli / 1000:g}"
            )

    def _refuse(self, message: str) -> None:
        raise PolicyRefusal("policy", f"policy: {message}")

"""Secure-aggregation terms of a charter: constants over the full member list (PROTOCOL §2.3, §4, §6).

A message can change none of them; a site's policy may refuse a charter because of one. A sub-table that a
study does not use is left out of its file and of its canonical JSON, so that leaving it out and not knowing
it are the same charter.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedmedlora_core.config import Section
from fedmedlora_core.validation_terms import ValidationTerms

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
Positive = Annotated[int, Field(ge=1, lt=2**53)]
NotNegative = Annotated[int, Field(ge=0, lt=2**53)]
Permille = Annotated[int, Field(ge=0, le=1000)]
CKKS_CONTEXT_FILE = "ckks-context.bin"
"""The public CKKS context in a study package, beside the study file."""


class GraphTerms(Section):
    """The k-regular graph of a large study; without this table every pair of sites shares masks.

    Attributes:
        neighbours: k, the sites that each site shares masks with; even.
        share_threshold: t, the shares that rebuild a seed.
        window_survivors: s, the fewest members of U2 and of U3 among any k/2 neighbours on the ring.
    """

    neighbours: Annotated[int, Field(ge=2, multiple_of=2)]
    share_threshold: Annotated[int, Field(ge=2)]
    window_survivors: Annotated[int, Field(ge=1)]


class CkksTerms(Section):
    """Who holds the one CKKS key of a study.

    Attributes:
        custody: "holder": one site decrypts, and it could read single updates. "shared": every site holds
            the key, and each of them could.
        holder: Id of the key holder; empty when the key is shared.
        context: Digest of the public context in the study package, hex.
    """

    custody: Literal["holder", "shared"]
    holder: Annotated[str, Field(pattern=r"^[a-z0-9-]{0,32}$")] = ""
    context: Hex32

    @model_validator(mode="after")
    def _holder_fits_custody(self) -> CkksTerms:
        if (self.custody == "holder") != bool(self.holder):
            raise ValueError("ckks.holder names the key holder if custody is 'holder', and nobody otherwise")
        return self

    def warnings(self) -> list[str]:
        """Say what this custody protects from whom; for every operator, before anything is signed."""
        if self.custody == "holder":
            found = [
                f"CKKS: '{self.holder}' holds the only key: it opens sums that it added itself",
                f"CKKS: '{self.holder}' could read any single update if its software were changed",
                "CKKS: the coordinator or another site alone reads nothing; the two together may",
            ]
        else:
            found = [
                "CKKS: every site holds the key: the coordinator alone reads nothing",
                "CKKS: any one site could read every single update if its software were changed",
            ]
        return [*found, "CKKS: colluding_sites protects nothing in this mode; masks withstand collusion"]


class VoteTerms(Section):
    """The sites' masked vote on an aggregate: is it worse on their own held-out notes?

    Attributes:
        every_rounds: A vote is taken in every round whose number this divides.
        margin_milli: Loss, in thousandths of a nat, by which the new adapter may be worse unopposed.
    """

    every_rounds: Positive
    margin_milli: NotNegative = 20


class SecureAggregationTerms(Section):
    """Masks, thresholds and clips; charter constants over the full member list (PROTOCOL §2.3).

    Attributes:
        mode: "masks"; "ckks" for homomorphic encryption; "none" for the same flow without either.
        key_agreement: "hybrid" puts ML-KEM-768 beside X25519 (PROTOCOL §6.14).
        wire_bits: Width in bits of a value on the wire.
        colluding_sites: c.
        threshold: T.
        min_sites: Policy floor below which no sum is opened.
        clip_value_micro: Largest magnitude of one value of an update, in millionths.
        clip_norm_micro: Largest L2 norm of an update, in millionths.
        clipped_warn_permille: Mean share of clipped values above which a round warns.
        graph: The k-regular graph, or None for the complete one.
        ckks: Key custody; present exactly in mode "ckks".
        vote: The vote on aggregates, or None for none.
        validation: The sums of validation counts, or None for none.
    """

    mode: Literal["masks", "ckks", "none"]
    key_agreement: Literal["hybrid", "x25519"] = "hybrid"
    wire_bits: Literal[16, 24, 32] = 32
    colluding_sites: NotNegative
    threshold: Positive
    min_sites: Annotated[int, Field(ge=3)]
    clip_value_micro: Positive
    clip_norm_micro: Positive
    clipped_warn_permille: Permille = 50
    graph: GraphTerms | None = None
    ckks: CkksTerms | None = None
    vote: VoteTerms | None = None
    validation: ValidationTerms | None = None

    @model_validator(mode="after")
    def _ckks_fits_mode(self) -> SecureAggregationTerms:
        if (self.mode == "ckks") != (self.ckks is not None):
            raise ValueError("the table secure_aggregation.ckks belongs to mode 'ckks', and only to it")
        if self.mode == "ckks" and (self.graph is not None or self.vote is not None):
            # R6.16.9, R4.7.9: this suite adds no masks; a graph would be idle, a vote readable.
            raise ValueError("mode 'ckks' has neither a graph nor a masked vote")
        if self.mode != "masks" and self.validation is not None:  # R4.15.9
            raise ValueError("validation counts need mode 'masks': without them each site's could be read")
        return self

"""The study file: the charter that every site reads, compares with its own pins, and signs (PROTOCOL §2.1).

One TOML file fixes everything that must be equal at all parties for the life of a study: base model, adapter
shape, labels, training, aggregation rule, secure-aggregation terms and every member's public keys. Its
canonical JSON (RFC 8785) is what is hashed and signed; numbers are integers with their unit in the name, so
no two parties can read one file differently.

A study package is a folder with `study.toml` and `initial/`, the PEFT folder of the initial adapter.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import rfc8785
import tomli_w
from pydantic import Field, model_validator

from fedmedlora_core.adapter_parts import half_of
from fedmedlora_core.aggregation import WeightRule
from fedmedlora_core.codec import EXTRAS, Codec
from fedmedlora_core.config import Section, load_toml
from fedmedlora_core.errors import CodecError, ConfigError
from fedmedlora_core.packing import Packing
from fedmedlora_core.privacy_terms import PrivacyTerms
from fedmedlora_core.private_releases import check_releases
from fedmedlora_core.secure_aggregation import (
    Hex32,
    Identifier,
    NotNegative,
    Positive,
    SecureAggregationTerms,
)
from fedmedlora_core.site_noise import SiteNoiseTerms, check_site_noise
from fedmedlora_core.strategy_terms import AdapterTerms, AggregationTerms
from fedmedlora_core.training_terms import PromptTerms, TrainingTerms
from fedmedlora_core.validation_terms import check_validation

SCHEMA = "fedmedlora-study/1"
STUDY_FILE = "study.toml"
INITIAL_FOLDER = "initial"
CHARTER_FILE = "charter.json"
"""Canonical JSON of the charter, beside every adapter that came out of it."""

Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
VerifierKeyText = Annotated[str, Field(min_length=40, max_length=256)]
WitnessKeyText = Annotated[str, Field(min_length=40, max_length=2048)]
Percent = Annotated[int, Field(ge=1, le=80)]


def threshold_for(n: int, colluding_sites: int) -> int:
    """Quorum T = floor((n + c) / 2) + 1 over the full member list (PROTOCOL §2.3).

    Two sets of T members then share more members than can collude, and an honest member consents once.
    """
    # R2.3.1
    return (n + colluding_sites) // 2 + 1


class StudyInfo(Section):
    """Name of the study and the seed that splits, adapters and training derive from."""

    id: Identifier
    title: Annotated[str, Field(max_length=200)] = ""
    seed: NotNegative


Origin = Annotated[str, Field(pattern=r"^[a-z0-9./-]{1,128}$")]


class PredecessorTerms(Section):
    """The last head of a log that was closed on doubt, signed by every member with its successor's charter.

    Attributes:
        origin: The closed log's origin.
        size: Entries under its last head.
        root: That head's root, hex.
    """

    origin: Origin
    size: Positive
    root: Hex32


class LogTerms(Section):
    """The transparency log of this study and the coordinator's keys, received by another route.

    Attributes:
        origin: The log's name, unique for ever.
        log_vkey: The key that signs its heads.
        coordinator_vkey: The key that signs the coordinator's events.
        predecessor: The log that this one goes on from, or None.
    """

    origin: Origin
    log_vkey: VerifierKeyText
    coordinator_vkey: VerifierKeyText
    predecessor: PredecessorTerms | None = None

    @model_validator(mode="after")
    def _new_name(self) -> LogTerms:
        if self.predecessor is not None and self.predecessor.origin == self.origin:
            raise ValueError("log.predecessor names this very log; a new log has a name and keys of its own")
        return self


class AuditTerms(Section):
    """What an auditor of this study demands beyond the law; a study without the table demands nothing more.

    Attributes:
        quorum: Heads of the log count only when T members have cosigned them, and nothing is opened before.
        timestamps: An audit is complete only if every closed round carries an external time stamp.
        retention_years: How long the log is kept whole after the end of the run, in years.
    """

    quorum: bool = False
    timestamps: bool = False
    retention_years: Annotated[int, Field(ge=1, le=100)] = 6


class ModelTerms(Section):
    """The frozen base model, bound by its digest."""

    kind: Literal["causal", "token_classification"]
    name: Annotated[str, Field(max_length=200)]
    digest: Hex32


class LabelTerms(Section):
    """The label types of the study and the tasks trained on them."""

    entities: Annotated[tuple[Label, ...], Field(min_length=1)]
    modifiers: tuple[Label, ...] = ()
    tasks: Annotated[tuple[Literal["ner", "re"], ...], Field(min_length=1)]


class SplitTerms(Section):
    """Split of each site's notes by patient."""

    seed: NotNegative
    validation_percent: Percent
    test_percent: Percent


class Member(Section):
    """One member: id, public keys and the label types it has annotated."""

    id: Identifier
    event_vkey: VerifierKeyText
    witness_vkey: WitnessKeyText
    annotated: tuple[Label, ...] = ()


class Study(Section):
    """The whole charter; see the module docstring."""

    schema_: Literal["fedmedlora-study/1"] = Field(alias="schema")
    study: StudyInfo
    log: LogTerms
    model: ModelTerms
    adapter: AdapterTerms
    labels: LabelTerms
    training: TrainingTerms
    aggregation: AggregationTerms
    secure_aggregation: SecureAggregationTerms
    splits: SplitTerms
    audit: AuditTerms | None = None
    prompt: PromptTerms | None = None
    privacy: PrivacyTerms | None = None
    site_noise: SiteNoiseTerms | None = None
    members: Annotated[tuple[Member, ...], Field(min_length=3, max_length=10_000)]

    @model_validator(mode="after")
    def _rules(self) -> Study:
        self._check_members()
        self._check_thresholds()
        self._check_support()
        self._check_model_kind()
        check_releases(self)
        check_site_noise(self)
        check_validation(self)
        try:
            self.codec()
        except CodecError as exc:
            raise ValueError(str(exc)) from None
        return self

    def _check_members(self) -> None:
        """Ids and keys name one member each; annotated types are the study's."""
        ids = self.member_ids
        keys = [k for m in self.members for k in (m.event_vkey, m.witness_vkey)]
        keys += [self.log.log_vkey, self.log.coordinator_vkey]
        if len(set(ids)) != len(ids):
            raise ValueError("two members have the same id")
        if len(set(keys)) != len(keys):
            raise ValueError("one key appears twice: every member and role has keys of its own")
        known = {*self.labels.entities, *self.labels.modifiers}
        if len(known) != len(self.labels.entities) + len(self.labels.modifiers):
            raise ValueError("a label type is listed twice")
        for member in self.members:
            for label in member.annotated:
                if label not in known:
                    raise ValueError(
                        f"member '{member.id}' annotates '{label}', which the study does not have"
                    )

    def _check_thresholds(self) -> None:
        """The threshold is the formula's, and enough honest members stay inside every sum."""
        terms = self.secure_aggregation
        n, c = len(self.members), terms.colluding_sites
        needed = threshold_for(n, c)
        # R2.3.2: one formula; what does not follow from it is no safe study.
        if terms.threshold != needed:
            raise ValueError(f"threshold must be {needed} for {n} members and {c} colluding sites")
        if needed > n:
            raise ValueError(f"{n} members cannot withstand {c} colluding sites")
        if needed - c < 2:
            raise ValueError("threshold - colluding_sites must be at least 2")
        if not 3 <= terms.min_sites <= needed:
            raise ValueError(f"min_sites must lie in 3..{needed}")
        if terms.vote is not None and self.adapter.mode == "sa":
            raise ValueError("adapter mode 'sa' has no vote: there is no adapter that two sites share")
        if terms.graph is not None and terms.graph.neighbours > n - 2:
            raise ValueError(
                f"graph.neighbours is at most {n - 2}; without the table every pair shares masks"
            )
        if terms.ckks is not None and terms.ckks.holder and terms.ckks.holder not in self.member_ids:
            raise ValueError(f"ckks.holder '{terms.ckks.holder}' is not a member")

    def _check_support(self) -> None:
        """An encoder's classifier rows belong to label types: each needs at least T annotating members."""
        if self.model.kind != "token_classification":
            if self.aggregation.type_weights is not None:
                raise ValueError(
                    "aggregation.type_weights needs a token classifier: only it has rows of types"
                )
            return
        for label in (*self.labels.entities, *self.labels.modifiers):
            count = sum(label in member.annotated for member in self.members)
            if count < self.secure_aggregation.threshold:
                raise ValueError(
                    f"'{label}' is annotated by {count} members; an encoder's rows for it would sum "
                    f"fewer than {self.secure_aggregation.threshold} sites: leave it out of the study"
                )

    def _check_model_kind(self) -> None:
        """What only one kind of model can do is not asked of the other."""
        if self.model.kind == "causal":
            return
        if self.prompt is not None:
            raise ValueError("prompt: a token classifier is not asked in words; leave the table out")
        if self.training.compute_dtype is not None:
            raise ValueError(
                "training.compute_dtype: a token classifier's output layer trains in float32; leave it out"
            )

    @property
    def member_ids(self) -> tuple[str, ...]:
        """Ids in charter order; a member's party index is its position here plus 1."""
        return tuple(member.id for member in self.members)

    @property
    def threshold(self) -> int:
        """Quorum T of the charter."""
        return self.secure_aggregation.threshold

    @property
    def clip_value(self) -> float:
        """Largest magnitude of one value of an update."""
        return self.secure_aggregation.clip_value_micro / 1e6

    @property
    def clip_norm(self) -> float:
        """Largest L2 norm of an update."""
        return self.secure_aggregation.clip_norm_micro / 1e6

    @property
    def server_learning_rate(self) -> float:
        """Factor on the averaged update."""
        return self.aggregation.server_learning_rate_milli / 1000

    def codec(self) -> Codec:
        """Ring encoding of this charter."""
        return Codec(
            clip=self.clip_value,
            n=len(self.members),
            weight_max=self.aggregation.weight_max,
            ring_bits=self.secure_aggregation.wire_bits,
            noise=None if self.site_noise is None else self.site_noise.in_sums,
        )

    @property
    def weighed_types(self) -> tuple[str, ...]:
        """Label types with weights of their own, in the order of the model's tags (R4.12.1)."""
        if self.aggregation.type_weights is None:
            return ()
        return (*self.labels.entities, *self.labels.modifiers)

    @property
    def extras(self) -> int:
        """Exact integers after the weight: the clipped share, then the weight of each type."""
        return EXTRAS + len(self.weighed_types)

    def update_dimension(self, round_number: int) -> int:
        """Values that travel in a round: all of the adapter, or the half that the round trains (R4.10.2)."""
        half = half_of(self.adapter.mode, round_number)
        if half is None or self.adapter.halves is None:
            return self.adapter.dimension
        return self.adapter.halves[half == "B"]

    def packing(self, round_number: int = 1) -> Packing:
        """Frames of a round's encoded update or ring sum: the values, the weight, exact integers."""
        count = self.update_dimension(round_number) + 1 + self.extras
        return Packing(self.secure_aggregation.wire_bits, count)

    def packings(self) -> tuple[Packing, ...]:
        """The frames of every kind of round, each once."""
        return tuple(dict.fromkeys(self.packing(number) for number in (1, 2)))

    @property
    def releases_constants(self) -> bool:
        """Whether all that a site releases besides its values is a constant (R4.13.2, R4.14.1)."""
        return self.privacy is not None or self.site_noise is not None

    def weight_rule(self) -> WeightRule:
        """Weight rule of this charter."""
        terms = self.aggregation
        return WeightRule(
            size_exponent=terms.size_exponent_milli / 1000,
            tau=terms.tau_milli / 1000,
            weights=terms.weights,
            weight_scale=terms.weight_scale,
            weight_max=terms.weight_max,
        )

    def canonical_json(self) -> bytes:
        """RFC 8785 bytes of the study: what is hashed and signed."""
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True))

    @property
    def digest(self) -> str:
        """SHA-256 of `canonical_json()`, in hex: the charter digest."""
        # R2.1.4
        return hashlib.sha256(self.canonical_json()).hexdigest()

    def warnings(self, *, expected_weight: int | None = None) -> list[str]:
        """Plain sentences about settings that are allowed but weaken something."""
        found = []
        if self.secure_aggregation.mode == "none":
            found.append("secure aggregation is off: the coordinator sees every site's update and weight")
        if self.secure_aggregation.mode == "masks" and self.secure_aggregation.key_agreement == "x25519":
            found.append(
                "no post-quantum key agreement: who records the traffic and later breaks X25519 reads it"
            )
        if self.secure_aggregation.ckks is not None:
            found += self.secure_aggregation.ckks.warnings()
        found += [
            f"'{label}' is annotated by {self.threshold} members, the fewest that a sum takes: "
            "a round in which one of them is away cannot end"
            for label in self.weighed_types
            if sum(label in member.annotated for member in self.members) == self.threshold
        ]
        if self.releases_constants and self.aggregation.weight_max > self.aggregation.weight_scale:
            found.append("every honest weight is weight_scale: a lying site can declare up to weight_max")
        if self.aggregation.weights == "exact":
            found.append("exact weights: differences of published weight sums can reveal a site's size")
        if expected_weight is not None and expected_weight * 64 < self.aggregation.weight_max:
            found.append(
                "the expected weight is under 1/64 of weight_max: rounding error grows in proportion"
            )
        return found

    def write(self, path: Path) -> None:
        """Write the study as TOML; `Study.load` of the file gives an equal study."""
        path.parent.mkdir(parents=True, exist_ok=True)
        table = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        path.write_text(tomli_w.dumps(table), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Study:
        """Read a study file or a study package.

        Raises:
            ConfigError: The file is missing or breaks a rule of the charter; one line.
        """
        file = path / STUDY_FILE if path.is_dir() else path
        return load_toml(file, cls)

    @classmethod
    def from_canonical_json(cls, data: bytes) -> Study:
        """Read a study back from its canonical JSON, as a bundle carries it.

        Raises:
            ConfigError: The bytes are not the canonical JSON of a valid study.
        """
        try:
            study = cls.model_validate_json(data, strict=False)
        except ValueError:
            raise ConfigError("the charter is not a valid study") from None
        if study.canonical_json() != data:
            raise ConfigError("the charter is not in canonical form")
        return study

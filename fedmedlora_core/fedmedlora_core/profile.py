"""Profiles: named sets of study settings, and the one place where a profile and the members make a study.

A profile is a TOML file with the sections of a study that do not depend on who takes part; the package ships
some under `profiles/`, and an operator may write another and name its path.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fedmedlora_core.codec import choose_wire_bits
from fedmedlora_core.config import Section, load_toml, parse_table
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.privacy_terms import Delta, Order, Unit
from fedmedlora_core.secure_aggregation import (
    CkksTerms,
    GraphTerms,
    NotNegative,
    Permille,
    Positive,
    VoteTerms,
)
from fedmedlora_core.site_noise import SiteNoiseTerms
from fedmedlora_core.strategy_terms import AdapterMode, AggregationTerms
from fedmedlora_core.study import (
    SCHEMA,
    AuditTerms,
    LabelTerms,
    LogTerms,
    Member,
    ModelTerms,
    Percent,
    Study,
    StudyInfo,
    threshold_for,
)
from fedmedlora_core.training_terms import PromptTerms, TrainingTerms
from fedmedlora_core.validation_terms import ValidationTerms


class AdapterShape(Section):
    """LoRA shape before the base model's sizes are known."""

    rank: Annotated[int, Field(ge=1, le=1024)]
    alpha: Annotated[int, Field(ge=1, le=65536)]
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    mode: AdapterMode


class SecureAggregationSettings(Section):
    """Secure-aggregation settings before the member count is known.

    Attributes:
        wire_bits: Width of a value on the wire; chosen from members and weight_max when left out.
    """

    mode: Literal["masks", "ckks", "none"]
    key_agreement: Literal["hybrid", "x25519"] = "hybrid"
    wire_bits: Literal[16, 24, 32] | None = None
    clipped_warn_permille: Permille = 50
    graph: GraphTerms | None = None
    ckks: CkksTerms | None = None
    vote: VoteTerms | None = None
    validation: ValidationTerms | None = None
    colluding_sites: NotNegative | None = None
    min_sites: Annotated[int, Field(ge=3)] = 3
    clip_value_micro: Positive
    clip_norm_micro: Positive


class SplitSettings(Section):
    """Split percentages."""

    validation_percent: Percent
    test_percent: Percent


class PrivacySettings(Section):
    """Differential privacy before the number of rounds is known; see `PrivacyTerms`.

    Attributes:
        noise_milli: Noise multiplier; `study new` finds the least that is enough for all rounds if left out.
        orders: Renyi orders; those of `ORDERS` if left out.
    """

    unit: Unit
    delta: Delta
    epsilon_milli: Positive
    noise_milli: Positive | None = None
    clip_micro: Positive
    sampling_micro: Annotated[int, Field(ge=1, le=1_000_000)]
    steps: Annotated[int, Field(ge=1, le=1_000_000)]
    batch_units: Positive
    orders: Annotated[tuple[Order, ...], Field(min_length=1)] | None = None


class BaseSettings(Section):
    """The base model that a profile was made for.

    Attributes:
        kind: What the model is used as.
        name: Where it is published; for people.
        architecture: Name of the shipped configuration whose sizes a folder must have.
    """

    kind: Literal["causal", "token_classification"]
    name: Annotated[str, Field(max_length=200)]
    architecture: Annotated[str, Field(pattern=r"^[a-z0-9.-]{1,64}$")]


class Profile(Section):
    """The member-independent part of a study; without `base` it is for any causal model."""

    base: BaseSettings | None = None
    labels: LabelTerms
    adapter: AdapterShape
    training: TrainingTerms
    aggregation: AggregationTerms
    secure_aggregation: SecureAggregationSettings
    splits: SplitSettings
    prompt: PromptTerms | None = None
    privacy: PrivacySettings | None = None
    site_noise: SiteNoiseTerms | None = None

    @property
    def kind(self) -> Literal["causal", "token_classification"]:
        """What the base model is used as."""
        return "causal" if self.base is None else self.base.kind

    @classmethod
    def names(cls) -> list[str]:
        """Names of the shipped profiles."""
        return sorted(entry.name.removesuffix(".toml") for entry in _shipped().iterdir())

    @classmethod
    def load(cls, name_or_path: str) -> Profile:
        """Read a shipped profile by name or any profile by path.

        Raises:
            ConfigError: There is no such profile, or the file is wrong.
        """
        names = cls.names()
        if name_or_path in names:
            return load_toml(Path(str(_shipped() / f"{name_or_path}.toml")), cls)
        if not Path(name_or_path).exists():
            raise ConfigError(
                f"there is no profile '{name_or_path}': name a TOML file or one of {', '.join(names)}"
            )
        return load_toml(Path(name_or_path), cls)

    def override(self, **changes: object) -> Profile:
        """Return a profile with single values changed.

        Args:
            changes: `section__key=value`, for example `training__rounds=3`.

        Raises:
            ConfigError: A key does not exist or a value is out of range.
        """
        table = self.model_dump(mode="json", exclude_none=True)
        for name, value in changes.items():
            section, _, key = name.partition("__")
            table.setdefault(section, {})[key] = value
        return parse_table(table, Profile, name="profile")


def _shipped() -> Traversable:
    """The folder of the profiles in the package."""
    return resources.files("fedmedlora_core") / "profiles"


def compose_study(
    profile: Profile,
    *,
    info: StudyInfo,
    log: LogTerms,
    model: ModelTerms,
    members: Sequence[Member],
    initial_digest: str,
    dimension: int,
    halves: tuple[int, int] | None = None,
    audit: AuditTerms | None = None,
) -> Study:
    """Join a profile with the members and the initial adapter into a study (PROTOCOL §2.1).

    Args:
        profile: Member-independent settings.
        info: Id, title and seed.
        log: Keys of the log and the coordinator.
        model: The base model and its digest.
        members: All members in charter order.
        initial_digest: Digest of the initial adapter, hex.
        dimension: Number of trainable values.
        halves: From `adapter_parts.halves_of`: what travels in mode "alternating".
        audit: What an auditor of the study demands.

    Returns:
        The study, with the threshold computed over the full member list.

    Raises:
        ConfigError: A rule of the charter is broken.
    """
    n = len(members)
    settings = profile.secure_aggregation
    colluding = n // 3 if settings.colluding_sites is None else settings.colluding_sites
    # R4.5.3: equal in every mode, so that masked and encrypted sums of one study are the same integers.
    secure = {
        "wire_bits": choose_wire_bits(n=n, weight_max=profile.aggregation.weight_max),
        **settings.model_dump(mode="json", exclude_none=True),
        "colluding_sites": colluding,
        "threshold": threshold_for(n, colluding),
    }
    table = {
        "schema": SCHEMA,
        "study": info.model_dump(mode="json"),
        "log": log.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "adapter": {
            **profile.adapter.model_dump(mode="json"),
            "initial_digest": initial_digest,
            "dimension": dimension,
            "halves": halves,
        },
        "labels": profile.labels.model_dump(mode="json"),
        "training": profile.training.model_dump(mode="json", exclude_none=True),
        "aggregation": profile.aggregation.model_dump(mode="json"),
        "secure_aggregation": secure,
        "splits": {"seed": info.seed, **profile.splits.model_dump(mode="json")},
        "members": [member.model_dump(mode="json") for member in members],
    }
    if profile.prompt is not None:
        table["prompt"] = profile.prompt.model_dump(mode="json")
    if profile.privacy is not None:
        if profile.privacy.noise_milli is None:
            raise ConfigError("privacy.noise_milli is missing: `study new` finds it for the planned rounds")
        table["privacy"] = profile.privacy.model_dump(mode="json", exclude_none=True)
    if profile.site_noise is not None:
        table["site_noise"] = profile.site_noise.model_dump(mode="json")
    if audit is not None:
        table["audit"] = audit.model_dump(mode="json")
    return parse_table(table, Study, name="study")

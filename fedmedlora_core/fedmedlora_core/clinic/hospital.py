"""The description of a synthetic hospital, read from the package's TOML files."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict

from fedmedlora_core.clinic.template import Template, parse_template
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.labels import ENTITY_TYPES

HOSPITAL_IDS: tuple[str, ...] = (
    "cardiology",
    "surgery",
    "neurology",
    "oncology",
    "paediatrics",
    "pulmonology",
    "emergency",
    "psychiatry",
    "orthopaedics",
    "endocrinology",
)
"""In the order in which `generate` takes them."""

MODIFIER_TYPES: tuple[str, ...] = (
    "severity",
    "negation",
    "temporal",
    "bodyloc",
    "course",
    "uncertain",
    "dosage",
    "frequency",
    "route",
    "duration",
    "labvalue",
)
"""The modifier types that the synthetic notes use, of the sixteen."""

CLINIC_TYPES: tuple[str, ...] = (*ENTITY_TYPES, *MODIFIER_TYPES)


class Names(BaseModel):
    """Names of one entity type: a closed list, and patterns whose names are open-ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixed: tuple[str, ...]
    open: tuple[str, ...]


class Lexicon(BaseModel):
    """Words and sentence templates, of all hospitals or of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: Mapping[str, tuple[str, ...]]
    names: Mapping[str, Names]
    modifiers: Mapping[str, tuple[str, ...]]
    templates: Mapping[str, tuple[str, ...]]

    def parsed(self, topic: str) -> tuple[Template, ...]:
        """The templates of a topic."""
        return tuple(parse_template(line) for line in self.templates[topic])


class Hospital(Lexicon):
    """One synthetic hospital: its words beside those that all hospitals share, and its habits.

    Args:
        title: One line that says what its notes look like.
        letter_case: Whether sentences stay as they are, begin with a capital, or are lower case throughout.
        full_stop: What ends a sentence; where it is empty, each sentence has a line of its own.
        typo_percent: Share of longer words that are misspelt.
        leave_out: Types that its annotators do not look for.
        joiners: What stands between two clauses of a sentence.
        sections: Headings with the topic of the sentences below them, in the order of its notes.
        abbreviations: How it writes words of the shared templates.
    """

    title: str
    letter_case: Literal["keep", "capitalise", "lower"]
    full_stop: Literal[" .", ""]
    typo_percent: int
    leave_out: tuple[str, ...]
    joiners: tuple[str, ...]
    sections: tuple[tuple[str, str], ...]
    abbreviations: Mapping[str, str]

    @property
    def annotated(self) -> frozenset[str]:
        """The span types that this hospital's annotators look for."""
        return frozenset(CLINIC_TYPES) - frozenset(self.leave_out)


@functools.cache
def shared_lexicon() -> Lexicon:
    """Words and templates that all hospitals have in common."""
    return Lexicon.model_validate(_read("shared.toml"))


@functools.cache
def load_hospital(hospital_id: str) -> Hospital:
    """The description of one of the hospitals.

    Raises:
        ConfigError: There is no hospital of this name.
    """
    if hospital_id not in HOSPITAL_IDS:
        raise ConfigError(f"no synthetic hospital of that name; there are {', '.join(HOSPITAL_IDS)}")
    return Hospital.model_validate(_read(f"hospitals/{hospital_id}.toml"))


def _read(name: str) -> dict[str, object]:
    """A TOML file of this package."""
    folder = resources.files("fedmedlora_core.clinic")
    return tomllib.loads(folder.joinpath(*name.split("/")).read_text(encoding="utf-8"))

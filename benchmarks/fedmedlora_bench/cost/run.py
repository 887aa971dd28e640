"""`fedmedlora bench cost`: each profile's costs computed, and measured where it runs here."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedmedlora_bench.cost.estimates import Workload, base_bytes, inference_bytes, traffic, training_bytes
from fedmedlora_bench.cost.measured import Measured, measure
from fedmedlora_bench.cost.models import write_random
from fedmedlora_bench.cost.plain import compare_decoding, compare_steps
from fedmedlora_bench.cost.private import LEAST_PRIVATE_RATIO, compare_private_steps, is_private_ready
from fedmedlora_bench.cost.shapes import ModelShape, shape_of
from fedmedlora_bench.cost.subjects import notes_for, subject, terms_of
from fedmedlora_bench.secagg.run import machine
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.generative import GenerativeLearner
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.profile import Profile
from fedmedlora_core.records import Note
from fedmedlora_core.shipped import shipped_base

__all__ = ["LEAST_REDUCTION", "MEASURED", "run_cost"]

LEAST_REDUCTION = 0.985
MOST_STEP_RATIO = 1.05
LEAST_DECODING_RATIO = 5.0
MEASURED = ("tiny", "bio-clinicalbert")
"""Profiles that any machine can run."""
_ROWS = 4
"""Examples in a measured step of a published model, and prompts answered together."""
_PROMPTS = 32
_LARGE_STEPS = 5
"""A published model is compared on a fifth of the steps: each takes many times as long."""

Say = Callable[[str], None]


def run_cost(
    *,
    sites: int,
    measured: Sequence[str],
    bases: Mapping[str, Path],
    steps: int,
    say: Say,
    wire: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Compute every named profile, measure some, and compare step and decoding with plain ones.

    Args:
        sites: Members of the study.
        measured: Profiles to measure; random weights where no folder is given.
        bases: Folders of base models by profile.
        steps: Steps of the comparison that count.
        say: Progress.
        wire: Bytes of a run of the demo's study, or None.

    Raises:
        ConfigError: A profile does not exist or names no model.
    """
    unknown = sorted({*measured, *bases} - {"tiny", *_named()})
    if unknown:
        raise ConfigError(f"'{unknown[0]}' is no profile with a base model of its own")
    rows = []
    with tempfile.TemporaryDirectory(prefix="fedmedlora-cost-") as scratch:
        for name in ("tiny", *_named()):
            profile = Profile.load(name)
            shape = shape_of(profile, _shipped_config() if name == "tiny" else None)
            row = _computed(name, profile, shape, sites)
            if name in measured:
                say(f"{name}: measuring")
                folder = bases.get(name) or _folder(name, profile, Path(scratch))
                found = measure(name, folder, rows=_ROWS)
                row["measured"] = {
                    **asdict(found),
                    **_of_the_same(profile, shape, found),
                    "weights": "given" if name in bases else ("shipped" if name == "tiny" else "random"),
                }
            rows.append(row)
        comparisons = _comparisons(measured, bases, Path(scratch), steps, say)
    return {
        "profiles": rows,
        **comparisons,
        "wire": None if wire is None else dict(wire),
        "wanted": {
            "up_and_down_reduction": LEAST_REDUCTION,
            "step_ratio": MOST_STEP_RATIO,
            "decoding_ratio": LEAST_DECODING_RATIO,
            "private_throughput_ratio": LEAST_PRIVATE_RATIO,
        },
        "sites": sites,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "machine": machine(),
    }


def _named() -> list[str]:
    """Profiles that are made for one published model."""
    return [name for name in Profile.names() if Profile.load(name).base is not None]


def _shipped_config() -> dict[str, Any]:
    return dict(json.loads((shipped_base() / "config.json").read_text(encoding="utf-8")))


def _folder(name: str, profile: Profile, scratch: Path) -> Path:
    """Where the model lies: in the package, or with random weights here."""
    folder = scratch / name
    if name == "tiny":
        return shipped_base()
    return folder if folder.exists() else write_random(profile, folder)


def _computed(name: str, profile: Profile, shape: ModelShape, sites: int) -> dict[str, Any]:
    training = profile.training
    load = Workload(training.batch_size, training.max_tokens)
    return {
        "profile": name,
        "base_name": profile.base.name if profile.base else "shipped",
        "parameters": shape.parameters,
        "adapter_parameters": shape.adapter,
        "trained": shape.trained,
        "trained_share": shape.trained / shape.parameters,
        "computed": {
            "rows": load.rows,
            "tokens": load.tokens,
            "base_bytes": base_bytes(shape, profile),
            "training_bytes": training_bytes(shape, profile, load),
            "inference_bytes_one": inference_bytes(shape, profile, Workload(1, training.max_tokens)),
            "inference_bytes_96": inference_bytes(shape, profile, Workload(96, training.max_tokens)),
        },
        "communication": traffic(shape, profile, sites=sites),
        "measured": None,
    }


def _of_the_same(profile: Profile, shape: ModelShape, found: Measured) -> dict[str, int]:
    """The computed figures of the very workload that was measured."""
    load = Workload(found.rows, found.longest)
    return {
        "computed_training_bytes": training_bytes(shape, profile, load),
        "computed_inference_bytes": inference_bytes(shape, profile, load),
    }


def _learner(name: str, folder: Path) -> Learner:
    return subject(name, folder)[0]


def _samples(notes: Sequence[Note], learner: Learner) -> list[Any]:
    return learner.samples(notes, ["ner"])


def _comparisons(
    measured: Sequence[str], bases: Mapping[str, Path], scratch: Path, steps: int, say: Say
) -> dict[str, Any]:
    """Our step beside a bare one for each measured profile, and batched decoding beside single prompts."""
    found, private = [], []
    decoding = None
    for name in measured:
        profile = Profile.load(name)
        folder = bases.get(name) or _folder(name, profile, scratch)
        terms = terms_of(profile)
        if profile.base is not None:
            terms = replace(terms, batch_size=min(terms.batch_size, _ROWS), accumulation=1)
        say(f"{name}: our step beside a bare PEFT loop")
        notes = notes_for(terms.step_size * 4)
        row = compare_steps(
            partial(_learner, name, folder),
            partial(_samples, notes),
            terms,
            steps=steps if profile.base is None else max(3, steps // _LARGE_STEPS),
        )
        found.append({"profile": name, **row})
        if is_private_ready():
            say(f"{name}: a private step beside a plain one")
            beside = compare_private_steps(
                partial(_learner, name, folder), partial(_samples, notes), terms, steps=row["steps"]
            )
            private.append({"profile": name, **beside})
        if name == "tiny":
            say("tiny: prompts together and one by one")
            learner = subject(name, folder)[0]
            if isinstance(learner, GenerativeLearner):
                prompts = [s.ids[: s.answer_start] for s in learner.samples(notes_for(_PROMPTS), ["ner"])]
                decoding = compare_decoding(learner, prompts[:_PROMPTS], tokens=32)
    return {"step": found, "private_step": private, "decoding": decoding}

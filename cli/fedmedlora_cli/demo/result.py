"""The demo's result: one flat JSON for scripts (docs/INTERFACES.md) from what the parties left behind."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedmedlora_cli.demo.options import DemoOptions, Fault
from fedmedlora_core.strategies import strategy_of
from fedmedlora_core.study import Study

BYTES_PER_VALUE = 4


@dataclass(frozen=True)
class Measured:
    """What a demo run measured besides scores.

    Args:
        base_parameters: Parameters of the base model.
        adapter_parameters: Trainable parameters of the adapter.
        bytes_up: Bytes one site sent in one round: masked upload, keys, shares and events.
        clipped: Round to the mean share of values that the clip changed, in thousandths.
        seconds: Phase to wall-clock seconds.
        spent_milli: The most that the study has cost at any hospital, in thousandths; None without privacy.
    """

    base_parameters: int
    adapter_parameters: int
    bytes_up: int
    clipped: Mapping[str, float]
    seconds: Mapping[str, float]
    spent_milli: int | None = None


def build_result(
    options: DemoOptions,
    study: Study,
    *,
    measured: Measured,
    systems: Mapping[str, Any],
    verdict: Mapping[str, Any],
    killed: tuple[Fault, ...],
    rounds: list[dict[str, Any]],
) -> dict[str, Any]:
    """Assemble `result.json` with the keys that scripts rely on."""
    limit = study.secure_aggregation.clipped_warn_permille
    full_update = (measured.base_parameters) * BYTES_PER_VALUE
    return {
        "study": {
            "id": study.study.id,
            "digest": study.digest,
            "seed": options.seed,
            "rounds": study.training.rounds,
            "local_epochs": study.training.local_epochs,
            "rule": study.aggregation.rule,
            "adapter_mode": study.adapter.mode,
            "strategy": strategy_of(study),
            "members": list(study.member_ids),
            "annotated": {m.id: list(m.annotated) for m in study.members},
        },
        "model": {
            "parameters": measured.base_parameters,
            "adapter_parameters": measured.adapter_parameters,
            "digest": study.model.digest,
        },
        "systems": dict(systems),
        "communication": {
            "bytes_up_per_site_round": measured.bytes_up,
            "bytes_full_model_update": full_update,
            "reduction": round(1 - measured.bytes_up / full_update, 4),
            "wire_bits": study.secure_aggregation.wire_bits,
            "clipped": {
                "by_round_permille": dict(measured.clipped),
                "warn_permille": limit,
                "warned_rounds": [int(number) for number, share in measured.clipped.items() if share > limit],
            },
        },
        "security": {
            "mode": options.secure,
            "sites": len(study.members),
            "threshold": study.threshold,
            "colluding_sites": study.secure_aggregation.colluding_sites,
            "dropped": [{"party": f.party, "step": f.step, "round": f.round} for f in killed],
        },
        "privacy": _privacy(study, measured.spent_milli),
        "rounds": rounds,
        "audit": {
            "verdict": verdict["verdict"],
            "events": verdict["events"],
            "checks": verdict["checks"],
        },
        "seconds": {name: round(value, 1) for name, value in measured.seconds.items()},
        "versions": versions(),
    }


def _privacy(study: Study, spent_milli: int | None) -> dict[str, Any] | None:
    """The study's promise to each unit, and what was spent of it."""
    terms = study.privacy
    if terms is None or spent_milli is None:
        return None
    return {
        "epsilon": terms.epsilon_milli / 1000,
        "delta": float(terms.delta),
        "unit": terms.unit,
        "spent": spent_milli / 1000,
        "noise_multiplier": terms.noise_multiplier,
        "sampling_rate": terms.sampling_rate,
        "steps": terms.steps,
    }


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    names = ("fedmedlora", "torch", "transformers", "peft", "numpy", "cryptography", "grpcio")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found, "machine": platform.machine()}

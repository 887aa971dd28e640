"""Charters with noise inside the masks, and one whose rounds cost more than it says."""

from pathlib import Path
from typing import Any

from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import START, StudyLog
from fedmedlora_testkit.audit_zoo.cage import Scene, specimen


def noisy_sections(*, rounds: int = 3, **changes: Any) -> dict[str, Any]:
    """Sections of a charter of four sites whose three rounds cost epsilon 7.746."""
    return {
        "training": {"rounds": rounds},
        "aggregation": {
            "weight_max": 100,
            "weight_scale": 100,
            "size_exponent_milli": 0,
            "tau_milli": 0,
        },
        "adapter": {"initial_digest": START, "dimension": 10_000},
        "secure_aggregation": {
            "mode": "masks",
            "key_agreement": "hybrid",
            "colluding_sites": 1,
            "threshold": 3,
            "min_sites": 3,
            "clip_norm_micro": 2_000_000,
            "clip_value_micro": 1_000_000,
        },
        "site_noise": {
            "delta": "1e-5",
            "epsilon_milli": 8000,
            "noise_milli": 1_800_000,
            "value_bits": 10,
            **changes,
        },
    }


@specimen("D6")
def site_noise_over_its_own_budget(folder: Path) -> Scene:
    """All sites signed a charter whose second round costs more than it allows; nobody had computed it."""
    log = StudyLog(**noisy_sections(epsilon_milli=5000)).play(2)
    made = Forger(log)
    return Scene(made.seal(folder / "bundle"), made.trust)

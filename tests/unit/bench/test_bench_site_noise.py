"""Rows of the noise table: by formula, and by drawing the noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedmedlora_bench.site_noise import NoiseOptions, averaged_noise, noise_rows, noisy_study, with_members
from fedmedlora_testkit.studies import make_study

STUDY = make_study(
    dimension=4000,
    overrides={
        "aggregation__size_exponent_milli": 0,
        "secure_aggregation__clip_norm_micro": 4_000_000,
        "secure_aggregation__wire_bits": 32,
        "training__rounds": 10,
    },
)
OPTIONS = NoiseOptions(sites=(3, 10), epsilons=(8.0, 32.0))


def test_rows_follow_the_closed_form_of_the_page() -> None:
    for row in noise_rows(STUDY, OPTIONS):
        noisy = noisy_study(with_members(STUDY, row["sites"]), epsilon=row["epsilon"], delta="1e-5")
        per_round = {8.0: 2.04, 32.0: 0.685}[row["epsilon"]]
        formula = math.sqrt(4000 / row["sites"] / row["contributors"]) * per_round
        assert row["noise_to_update"] == pytest.approx(formula, rel=0.03)
        assert noisy.site_noise is not None and noisy.site_noise.noise_milli == row["noise_milli"]


def test_drawn_noise_is_as_long_as_the_row_says() -> None:
    (row,) = noise_rows(STUDY, NoiseOptions(sites=(10,), epsilons=(8.0,)))
    noisy = noisy_study(with_members(STUDY, 10), epsilon=8.0, delta="1e-5")
    length = float(np.linalg.norm(averaged_noise(noisy, b"k" * 32)))
    assert length / 4.0 == pytest.approx(row["noise_to_update"], rel=0.06)


def test_noise_shrinks_with_sites_and_with_epsilon() -> None:
    small, loose, large, both = [row["noise_to_update"] for row in noise_rows(STUDY, OPTIONS)]
    assert small > loose > both
    assert small > large > both

"""The best coherent tags against all coherent tags, counted out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.tag_paths import best_paths
from fedmedlora_core.tasks.tagging import tag_names

NAMES = tag_names(label_set(["problem", "drug"]))


def is_coherent(path: tuple[int, ...]) -> bool:
    before = "O"
    for tag in (NAMES[number] for number in path):
        if tag.startswith("I-") and before not in (f"B-{tag[2:]}", tag):
            return False
        before = tag
    return True


@pytest.mark.parametrize("seed", range(8))
def test_the_path_is_the_best_of_all_coherent_ones(seed: int) -> None:
    generator = np.random.default_rng(seed)
    lengths = [4, 1, 0, 3, 5]
    scores = torch.tensor(generator.normal(size=(sum(lengths), len(NAMES))), dtype=torch.float32)
    scores[generator.random(scores.shape) < 0.2] = float("-inf")
    scores[:, 0] = torch.tensor(generator.normal(size=len(scores)), dtype=torch.float32)
    found = best_paths(scores, lengths, NAMES)
    first = 0
    for length, path in zip(lengths, found, strict=True):
        rows = scores[first : first + length].tolist()
        best = max(
            (way for way in product(range(len(NAMES)), repeat=length) if is_coherent(way)),
            key=lambda way: sum(row[tag] for row, tag in zip(rows, way, strict=True)),
        )
        assert tuple(path) == best
        first += length


def test_tags_that_are_coherent_word_by_word_stay_as_they_are() -> None:
    path = [NAMES.index(name) for name in ("B-drug", "I-drug", "O", "B-problem", "B-problem", "I-problem")]
    scores = torch.nn.functional.one_hot(torch.tensor(path), len(NAMES)).float()
    assert best_paths(scores, [2, 4], NAMES) == [path[:2], path[2:]]


def test_no_words_have_no_tags() -> None:
    assert best_paths(torch.zeros(0, len(NAMES)), [0, 0], NAMES) == [[], []]

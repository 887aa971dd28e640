"""The best row of tags that reads as spans: an inside tag only after a tag of its own type.

The highest tag of each word, word by word, may be "O, inside" or "begin a problem, inside a test"; read back,
such rows give pieces of spans with wrong bounds. Among the rows that are whole the best one is found in one
pass, because a tag's predecessor is either free (outside, begin) or one of two (inside).

Shapes, as suffixes: b sequences, t places, l tags, n words of all sequences together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["best_paths"]


def best_paths(scores_nl: torch.Tensor, lengths: Sequence[int], names: Sequence[str]) -> list[list[int]]:
    """Find the coherent tags with the highest sum of scores for each sequence.

    Args:
        scores_nl: Score of each tag at each word, sequence after sequence; minus infinity where a tag may not
            stand. The outside tag must be free everywhere.
        lengths: Words of each sequence; they add up to the rows of `scores_nl`.
        names: Tag names, as of `tag_names`.

    Returns:
        Tag numbers of each sequence.
    """
    if not len(scores_nl):
        return [[] for _ in lengths]
    parts = list(torch.split(scores_nl.cpu(), list(lengths)))
    padded_btl = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    inside = torch.tensor([i for i, name in enumerate(names) if name.startswith("I-")], dtype=torch.long)
    begin = torch.tensor([names.index(f"B-{name[2:]}") for name in names if name.startswith("I-")])
    total_bl = padded_btl[:, 0].clone()
    total_bl[:, inside] = float("-inf")
    totals, origins = [total_bl], []
    for place in range(1, padded_btl.shape[1]):
        top_b, origin_b = total_bl.max(1)
        before_bl = top_b[:, None].repeat(1, len(names))
        origin_bl = origin_b[:, None].repeat(1, len(names))
        goes_on = total_bl[:, inside] > total_bl[:, begin]
        before_bl[:, inside] = torch.where(goes_on, total_bl[:, inside], total_bl[:, begin])
        origin_bl[:, inside] = torch.where(goes_on, inside, begin)
        total_bl = before_bl + padded_btl[:, place]
        totals.append(total_bl)
        origins.append(origin_bl)
    return [_walk_back(totals, origins, row, length) for row, length in enumerate(lengths)]


def _walk_back(
    totals: Sequence[torch.Tensor], origins: Sequence[torch.Tensor], row: int, length: int
) -> list[int]:
    """Follow one sequence's origins from the best last tag; what lies behind its end does not matter."""
    if not length:
        return []
    tags = [int(totals[length - 1][row].argmax())]
    for place in range(length - 2, -1, -1):
        tags.append(int(origins[place][row, tags[-1]]))
    return tags[::-1]

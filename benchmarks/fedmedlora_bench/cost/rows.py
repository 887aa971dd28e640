"""The figures of `bench cost` as rows of cells, for a terminal and Markdown alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["conditions", "cost_grids", "meets"]

Grid = tuple[str, list[str], list[list[str]]]
"""(title, heads, rows); the first column is text, the others are numbers."""

EXEMPT = ("tiny", "encoder")
"""Profiles without a published base model: an adapter is no small part of a small model."""


def meets(result: Mapping[str, Any]) -> bool:
    """Whether every bound holds: bytes of each named profile, our step, a private one, batched decoding."""
    wanted = result["wanted"]
    named = [row["communication"] for row in result["profiles"] if row["profile"] not in EXEMPT]
    least = wanted["up_and_down_reduction"]
    decoding = result["decoding"]
    return (
        all(row["up_reduction"] >= least and row["down_reduction"] >= least for row in named)
        and all(row["ratio"] <= wanted["step_ratio"] for row in result["step"])
        and all(row["throughput_ratio"] >= wanted["private_throughput_ratio"] for row in _private(result))
        and (decoding is None or decoding["ratio"] >= wanted["decoding_ratio"])
    )


def cost_grids(result: Mapping[str, Any]) -> list[Grid]:
    """Lay out a result."""
    found = [_memory(result), _measured(result), _bytes(result), _step(result), _private_step(result)]
    return [grid for grid in found if grid[2]]


def conditions(result: Mapping[str, Any]) -> str:
    """Say what the figures are figures of."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    machine = result["machine"]
    return f"{machine['cores']} cores, {machine['cpu']}, load {machine['load']:.1f}; {versions}."


def _memory(result: Mapping[str, Any]) -> Grid:
    heads = ["computed", "base model", "trained", "share", "weights", "training", "one prompt", "96 prompts"]
    rows = []
    for row in result["profiles"]:
        computed = row["computed"]
        rows.append(
            [
                row["profile"],
                f"{row['parameters']:,}",
                f"{row['trained']:,}",
                f"{row['trained_share']:.2%}",
                _size(computed["base_bytes"]),
                _size(computed["training_bytes"]),
                _size(computed["inference_bytes_one"]),
                _size(computed["inference_bytes_96"]),
            ]
        )
    return "Parameters and memory, computed", heads, rows


def _measured(result: Mapping[str, Any]) -> Grid:
    heads = ["measured", "weights", "rows x tokens", "training", "computed", "answering", "computed"]
    heads += ["s a step", "s a prompt"]
    rows = []
    for row in result["profiles"]:
        found = row["measured"]
        if found is not None:
            rows.append(
                [
                    row["profile"],
                    found["weights"],
                    f"{found['rows']} x {found['longest']}",
                    _size(found["training_bytes"]),
                    _size(found["computed_training_bytes"]),
                    _size(found["inference_bytes"]),
                    _size(found["computed_inference_bytes"]),
                    f"{found['step_seconds']:.2f}",
                    f"{found['answer_seconds']:.2f}",
                ]
            )
    return "Measured here", heads, rows


def _bytes(result: Mapping[str, Any]) -> Grid:
    heads = [
        "bytes a site and round",
        "whole model",
        "up",
        "down",
        "check of the sum",
        "up less",
        "down less",
    ]
    heads += ["down with the check less"]
    rows = []
    for row in result["profiles"]:
        sent = row["communication"]
        rows.append(
            [
                row["profile"],
                _size(sent["full_model_bytes"]),
                _size(sent["up_bytes"]),
                _size(sent["down_bytes"]),
                _size(sent["check_bytes"]),
                f"{sent['up_reduction']:.2%}",
                f"{sent['down_reduction']:.2%}",
                f"{sent['down_with_check_reduction']:.2%}",
            ]
        )
    wire = result["wire"]
    if wire is not None:
        name, full, sent = "tiny, on the wire", _size(wire["full_model_bytes"]), wire
        rows.append([name, full, _size(sent["up_bytes"]), _size(sent["down_bytes"]), "in down"])
        rows[-1] += [f"{sent['up_reduction']:.2%}", "", f"{sent['down_reduction']:.2%}"]
    return "Communication", heads, rows


def _step(result: Mapping[str, Any]) -> Grid:
    rows = [
        [
            f"{row['profile']}: a training step, s",
            f"{row['our_seconds']:.3f}",
            f"{row['bare_seconds']:.3f}",
            f"{row['ratio']:.2f}",
        ]
        for row in result["step"]
    ]
    found = result["decoding"]
    if found is not None:
        together, single = found["batched_tokens_per_second"], found["single_tokens_per_second"]
        rows.append(["tiny: tokens a second", f"{together:.0f}", f"{single:.0f}", f"{found['ratio']:.1f}"])
    return "Beside a bare PEFT loop, and one prompt at a time", ["", "ours", "plain", "ratio"], rows


def _private(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Private steps beside plain ones; a result from before they were measured has none."""
    return list(result.get("private_step", ()))


def _private_step(result: Mapping[str, Any]) -> Grid:
    heads = ["a step under differential privacy", "rows", "values", "private, s", "plain, s", "rows a second"]
    rows = [
        [
            row["profile"],
            str(row["batch_size"]),
            f"{row['trained']:,}",
            f"{row['private_seconds']:.3f}",
            f"{row['plain_seconds']:.3f}",
            f"{row['throughput_ratio']:.0%}",
        ]
        for row in _private(result)
    ]
    return "Private training, beside plain training on the same rows", heads, rows


def _size(count: float) -> str:
    """Bytes for people."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"

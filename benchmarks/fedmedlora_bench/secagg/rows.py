"""The figures of `bench secagg` as rows of cells, for a terminal, Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PARTS = {
    "client": {
        "encode": "clip and encode",
        "masks": "masks",
        "keys": "keys",
        "shares": "shares",
        "hash": "pack and hash",
        "other": "other",
    },
    "coordinator": {
        "accumulate": "add the uploads",
        "unmask": "unmask",
        "decode": "decode",
        "checks": "read keys and shares",
        "other": "other",
    },
}
PEERS = {"flwr": "Flower SecAgg+"}
NOTHING = "-"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What it is.
        ours: Our figure with its unit.
        peer: The peer's; empty where there is no peer.
        ratio: Peer over ours.
        part: Whether it is a part of the line above that is none.
    """

    name: str
    ours: str
    peer: str = ""
    ratio: str = ""
    part: bool = False


def columns(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Heads of the columns."""
    if result["peer"] is None:
        return ("", "ours")
    return ("", "ours", PEERS[result["peer"]], "ratio")


def cost_rows(result: Mapping[str, Any]) -> list[Row]:
    """Seconds of client and coordinator with their parts, and bytes of the upload."""
    rows: list[Row] = []
    for role in PARTS:
        rows += _role_rows(result, role)
    theirs = result["peer_upload_bytes_per_value"]
    ours = result["upload_bytes_per_value"]
    rows.append(
        Row(
            "upload, bytes a value",
            f"{ours:.2f}",
            "" if theirs is None else f"{theirs:.2f}",
            "" if theirs is None else f"{theirs / ours:.1f}",
        )
    )
    return rows


def _role_rows(result: Mapping[str, Any], role: str) -> list[Row]:
    ours = result["seconds"]["ours"][role]
    peer = result["seconds"].get("peer", {}).get(role)
    rows = []
    for kind, name in (("wall", "wall clock"), ("cpu", "CPU")):
        theirs = "" if peer is None else seconds(peer[kind]["total"])
        ratio = result[f"{role}_{kind}_ratio"]
        rows.append(
            Row(
                f"{role}, {name}",
                seconds(ours[kind]["total"]),
                theirs,
                "" if ratio is None else f"{ratio:.1f}",
            )
        )
    for key, name in PARTS[role].items():
        mine, other = ours["wall"].get(key), (peer or {"wall": {}})["wall"].get(key)
        if mine is not None or other is not None:
            both = mine and other
            rows.append(
                Row(
                    name,
                    seconds(mine),
                    "" if peer is None else seconds(other),
                    f"{other / mine:.1f}" if both else "",
                    part=True,
                )
            )
    return [rows[0], *rows[2:], rows[1]]  # the parts are of the wall clock


def beside_rows(result: Mapping[str, Any]) -> list[Row]:
    """What stands beside the comparison: the floor, memory, deviation and the cost of the hybrid suite."""
    memory = result["memory"]
    rows = [
        Row("masks over bare AES-256-CTR", f"{result['mask_over_raw_aes_ratio']:.2f}"),
        Row(
            "check of the uploads' hashes on arrival, not counted above",
            seconds(result["hash_check_seconds"]),
        ),
        Row("peak memory of a site, vectors", f"{memory['site']['vectors']:.2f}"),
        Row("peak memory of the coordinator, vectors", f"{memory['coordinator']['vectors']:.2f}"),
        Row("largest error of a value", f"{result['max_error']:.1e}", _error(result["peer_max_error"])),
        Row("error bound", f"{result['error_bound']:.1e}"),
    ]
    for suite, cost in result["key_agreement"].items():
        spent = seconds(cost["keys_seconds"] + cost["shares_seconds"])
        size = (cost["keys_bytes"] + cost["shares_bytes"]) / 1000
        rows.append(Row(f"keys and shares of a site, {suite}", f"{spent}, {size:.1f} kB"))
    return rows


def conditions(result: Mapping[str, Any]) -> str:
    """Say in one sentence each what was run and on what."""
    versions = result["versions"]
    said = [f"{name} {number}" for name, number in versions["ours"].items()]
    if "peer" in versions:
        said.append(f"flwr {versions['peer']['flwr']}")
    machine = result["machine"]
    return (
        f"{result['params']:,} values, {result['sites']} sites, {result['dropped']} dropped out, threshold "
        f"{result['threshold']}, suite {result['suite']}, {result['wire_bits']} bits on the wire, "
        f"{result['threads']} threads on our side; medians of {result['repeats']} passes in turn after a "
        f"warm-up. {machine['cores']} cores, {machine['cpu']}; {', '.join(said)}."
    )


def seconds(value: float | None) -> str:
    """Lay out seconds with three digits that say something."""
    if value is None:
        return NOTHING
    if value >= 1:
        return f"{value:.2f} s"
    return f"{1000 * value:.0f} ms" if value >= 0.1 else f"{1000 * value:.1f} ms"


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"

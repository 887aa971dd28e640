"""Peak memory of one site and of the coordinator, each alone in a process, above what it had before.

The figure is in vectors: the bytes of one float32 update. A site's three steps up to the masks are done
before the base is taken, and the update itself counts.
"""

from __future__ import annotations

import json
import os
from io import FileIO
from pathlib import Path
from typing import Any

from fedmedlora_bench.resident import forget_peak, peak
from fedmedlora_bench.secagg.case import Case
from fedmedlora_bench.secagg.ours import (
    CoordinatorWork,
    Exchange,
    Played,
    SiteWork,
    exchange_of,
    room_with_update,
    terms_of,
)
from fedmedlora_core.packing import FRAME_BYTES

_FLOAT_BYTES = 4
_SENT = "sent.json"


def keep(case: Case, played: Played) -> None:
    """Write everything that was sent in a round to the case's folder, for `of_coordinator`."""
    folder = Path(case.folder)
    for site, upload in played.uploads.items():
        (folder / f"upload-{site}").write_bytes(b"".join(upload.frames))
    sent: dict[str, Any] = {"sid": played.sid.hex(), "view": played.exchange.view.hex()}
    for name, payloads in (
        ("keys", played.exchange.keys),
        ("shares", played.exchange.shares),
        ("opened", played.opened),
    ):
        sent[name] = {str(site): payload.hex() for site, payload in payloads.items()}
    (folder / _SENT).write_text(json.dumps(sent), encoding="utf-8")


def of_site(case: Case) -> dict[str, float]:
    """Peak memory of one site that clips, encodes, masks and hashes its update."""
    terms = terms_of(case, bytes(32))
    sites = {i: SiteWork(case, terms, i) for i in range(1, case.sites + 1)}
    exchange = exchange_of(sites, CoordinatorWork(case, terms))
    sites[1].fix(exchange.shares)
    base = forget_peak()
    sites[1].upload(room_with_update(case, 1), lambda _: None)
    return figures(case, base)


def of_coordinator(case: Case) -> dict[str, float]:
    """Peak memory of a coordinator that adds stored uploads, takes the masks off and decodes."""
    folder = Path(case.folder)
    sent = json.loads((folder / _SENT).read_text(encoding="utf-8"))
    keys, shares, opened = (
        {int(site): bytes.fromhex(payload) for site, payload in sent[name].items()}
        for name in ("keys", "shares", "opened")
    )
    work = CoordinatorWork(case, terms_of(case, bytes.fromhex(sent["sid"])))
    exchange = Exchange(keys, bytes.fromhex(sent["view"]), shares)
    base = forget_peak()
    files = {str(site): (folder / f"upload-{site}").open("rb", buffering=0) for site in case.survivors}
    try:
        work.sum(exchange, lambda site, index: _chunk(files[site], index), opened)
    finally:
        for file in files.values():
            file.close()
    return figures(case, base)


def figures(case: Case, base: int) -> dict[str, float]:
    """Peak above the base, in bytes and in vectors."""
    above = peak() - base
    return {"base_bytes": base, "above_base_bytes": above, "vectors": above / (_FLOAT_BYTES * case.params)}


def _chunk(file: FileIO, index: int) -> bytes:
    """Read one chunk of a stored upload, from any thread."""
    return os.pread(file.fileno(), FRAME_BYTES, index * FRAME_BYTES)

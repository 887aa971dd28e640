"""`bench ckks`: encrypted sums beside masked ones - the same updates, the same ring, one table.

Both ways start from the same encoded updates and must end in the same ring sum, bit for bit; the run fails
otherwise. Masks: every party's keys, shares, masks and openings, and the coordinator's sum. CKKS: every
site's encryption into a file, and the key holder's additions and decryption from those files. No network.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fedmedlora_core.codec import Codec
from fedmedlora_core.packing import Packing
from fedmedlora_crypto.ckks import (
    PublicContext,
    SecretKey,
    SlotTerms,
    Workers,
    add_chunks,
    chunk_count,
    chunk_values,
    generate,
    plan,
)
from fedmedlora_crypto.secagg import HYBRID_SUITE, Aggregator, Party, SessionTerms, quorum
from fedmedlora_crypto.secagg.reference import reference_view
from fedmedlora_crypto.xof import Keystream

DEFAULT_VALUES = (1_310_720, 11_300_000)
CLIP = 0.05
WEIGHT_MAX = 1024
CHUNK_BYTES = 1 << 20
TRUST = {
    "masks": "T - c honest survivors, and up to c sites may work with the coordinator",
    "ckks, one holder": "the holder not to read single updates, and no site to work with the coordinator",
    "ckks, shared key": "every site not to read single updates, and none to work with the coordinator",
}
T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True)
class CkksRow:
    """One way of summing at one size.

    Attributes:
        way: "masks" or "ckks".
        values: Values of the update, without weight.
        sites: Sites in the sum.
        processes: Worker processes or threads.
        site_seconds: Median wall-clock seconds of one site: masks with keys and shares, or encryption.
        sum_seconds: Wall-clock seconds of who makes the sum: the coordinator, or each site with the key.
        upload_bytes: Bytes of one upload.
        bytes_per_value: The same, a value.
        expansion: Upload over plain fp32.
        deviation_quanta: Largest distance from an integer before rounding; 0 where nothing is rounded.
        mean_error: Largest |decoded mean - float64 weighted mean|.
        mean_bound: Bound on it that the codec states, with half an ulp of float32.
        ring_equal: Whether the ring sum is the plain one bit for bit.
        trusted: What has to be trusted for single updates to stay closed.
    """

    way: str
    values: int
    sites: int
    processes: int
    site_seconds: float
    sum_seconds: float
    upload_bytes: int
    bytes_per_value: float
    expansion: float
    deviation_quanta: float
    mean_error: float
    mean_bound: float
    ring_equal: bool
    trusted: str


class Updates:
    """The same random updates for every way, drawn again instead of kept."""

    def __init__(self, values: int, sites: int, codec: Codec) -> None:
        """Fix size and seeds."""
        self.values, self.sites, self.codec = values, sites, codec

    def weight(self, site: int) -> int:
        """Weight of a site."""
        return 1 << (6 + site % 4)

    def plain(self, site: int) -> NDArray[np.float32]:
        """A site's clipped update."""
        drawn = np.random.default_rng((17, site)).normal(0.0, 0.01, self.values).astype(np.float32)
        return np.clip(drawn, -CLIP, CLIP)

    def encoded(self, site: int) -> NDArray[np.uint32]:
        """A site's encoded update."""
        stream = Keystream(site.to_bytes(32, "big"))
        return self.codec.encode(self.plain(site), weight=self.weight(site), words=stream.words)

    def ring_sum(self) -> NDArray[np.uint32]:
        """The sum in the ring, plainly."""
        total = np.zeros(self.values + 1, dtype=np.uint32)
        for site in range(1, self.sites + 1):
            total += self.encoded(site)
        return total & np.uint32(self.codec.modulus - 1)

    def mean_error(self, total: NDArray[np.uint32]) -> tuple[float, float]:
        """Return (largest error of the decoded mean against float64, the bound)."""
        exact = np.zeros(self.values)
        weights = 0
        for site in range(1, self.sites + 1):
            exact += self.weight(site) * self.plain(site).astype(np.float64)
            weights += self.weight(site)
        exact /= weights
        mean, weight_sum, _ = self.codec.decode(total)
        bound = self.codec.error_bound(weight_sum=weight_sum, m=self.sites)
        return float(np.abs(mean - exact).max()), bound + float(np.spacing(np.float32(CLIP))) / 2


def run_ckks(
    sizes: Sequence[int] = DEFAULT_VALUES,
    *,
    sites: int = 4,
    wire_bits: int = 24,
    cores: int | None = None,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Measure masks and CKKS on the same updates.

    Args:
        sizes: Values of an update, one run each.
        sites: Sites in the sum, at least 3.
        wire_bits: Width of the ring: 16, 24 or 32.
        cores: Processes and threads to use; all cores when None.
        say: Told what is being done, and the plan before anything is encrypted.

    Returns:
        {"rows": [...], "plans": [...]}, flat rows as in `CkksRow`.

    Raises:
        LibraryError: TenSEAL is not installed.
        RuntimeError: The two ways gave different ring sums.
    """
    rows: list[CkksRow] = []
    plans = []
    context, secret = generate()
    for values in sizes:
        codec = Codec(clip=CLIP, n=sites, weight_max=WEIGHT_MAX, ring_bits=wire_bits)
        updates = Updates(values, sites, codec)
        planned = plan(values + 1, sites, ring_bits=codec.ring_bits, clock=time.perf_counter, cores=cores)
        plans.append({**asdict(planned), "upload_bytes": planned.upload_bytes, "lines": planned.lines()})
        for line in planned.lines():
            say(line)
        truth = updates.ring_sum()
        say(f"masks: {sites} sites, {values} values")
        rows.append(_masks(updates, truth, threads=cores or planned.workers))
        say(f"ckks: {sites} sites, {values} values")
        rows.append(_ckks(updates, truth, context, secret, cores=cores, say=say))
    return {"rows": [asdict(row) for row in rows], "plans": plans, "trust": TRUST}


def ckks_table(result: dict[str, Any]) -> Table:
    """The rows for people."""
    caption = "; ".join(f"{way} trusts {what}" for way, what in result["trust"].items())
    table = Table(title="masked and encrypted sums of the same updates", caption=caption)
    for name in ("values", "way", "s/site", "s/sum", "MB up", "x fp32", "quanta", "error"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result["rows"]:
        table.add_row(
            f"{row['values']:,}",
            row["way"],
            f"{row['site_seconds']:.3g}",
            f"{row['sum_seconds']:.3g}",
            f"{row['upload_bytes'] / 1e6:.1f}",
            f"{row['expansion']:.2f}",
            f"{row['deviation_quanta']:.1e}",
            f"{row['mean_error']:.1e}",
        )
    return table


def _masks(updates: Updates, truth: NDArray[np.uint32], *, threads: int) -> CkksRow:
    """Run one whole masked session in this process."""
    n, colluding = updates.sites, updates.sites // 3
    terms = SessionTerms(secrets.token_bytes(32), n, quorum(n, colluding), colluding, HYBRID_SUITE)
    indices = range(1, n + 1)
    parties = {i: Party(terms, i) for i in indices}
    spent = dict.fromkeys(indices, 0.0)

    def timed(i: int, work: Callable[..., T], *given: Any, **named: Any) -> T:
        started = time.perf_counter()
        found = work(*given, **named)
        spent[i] += time.perf_counter() - started
        return found

    keys = {i: timed(i, parties[i].advertise) for i in indices}
    view = reference_view(terms.sid, keys)
    shares = {i: timed(i, parties[i].share, keys, view) for i in indices}
    total, adding = np.zeros_like(truth), 0.0
    for i in indices:
        vector = updates.encoded(i)
        timed(i, parties[i].fix, shares)
        timed(i, parties[i].mask, vector, threads=threads)
        started = time.perf_counter()
        total += vector
        adding += time.perf_counter() - started
    for i in indices:
        parties[i].agree(indices)
    opened = {i: timed(i, parties[i].open, indices, indices) for i in indices}
    started = time.perf_counter()
    Aggregator(terms).unmask(total, keys, shares, indices, opened, threads=threads)
    adding += time.perf_counter() - started
    return _row(
        "masks",
        updates,
        truth,
        total & np.uint32(updates.codec.modulus - 1),
        processes=threads,
        site_seconds=median(spent.values()),
        sum_seconds=adding,
        upload_bytes=Packing(updates.codec.ring_bits, truth.size).total_bytes,
    )


def _ckks(
    updates: Updates,
    truth: NDArray[np.uint32],
    context: PublicContext,
    secret: SecretKey,
    *,
    cores: int | None,
    say: Say,
) -> CkksRow:
    """Encrypt every site's update into a file, then add and decrypt from the files."""
    slots = SlotTerms(updates.codec.ring_bits, updates.sites)
    count = chunk_count(truth.size)
    spent = []
    with tempfile.TemporaryDirectory(prefix="fedmedlora-bench-") as folder:
        files = [Path(folder) / f"{site}.ciphertexts" for site in range(1, updates.sites + 1)]
        for site, file in enumerate(files, start=1):
            vector = updates.encoded(site)
            started = time.perf_counter()
            with Workers(slots, context, chunks=count, cores=cores) as workers, file.open("wb") as out:
                for chunk in workers.encrypt(vector):
                    out.write(chunk)
            spent.append(time.perf_counter() - started)
            say(f"ckks: site {site} of {updates.sites} encrypted in {spent[-1]:.1f} s")
        size = files[0].stat().st_size
        started = time.perf_counter()
        total, deviation = np.empty_like(truth), 0.0
        with Workers(slots, context, secret=secret, chunks=count, cores=cores) as workers:
            at = 0
            for opened in workers.open(_sums(slots, files, truth.size, threshold=updates.sites)):
                total[at : at + opened.words.size] = opened.words
                at += opened.words.size
                deviation = max(deviation, opened.deviation)
            processes = workers.count
        adding = time.perf_counter() - started
    row = _row(
        "ckks",
        updates,
        truth,
        total,
        processes=processes,
        site_seconds=median(spent),
        sum_seconds=adding,
        upload_bytes=size,
    )
    return CkksRow(**{**asdict(row), "deviation_quanta": deviation})


def _sums(slots: SlotTerms, files: Sequence[Path], values: int, *, threshold: int) -> Iterator[Any]:
    """Yield the sum of each chunk over all files."""
    streams = [file.open("rb") for file in files]
    try:
        for index in range(chunk_count(values)):
            chunks = [(i, stream.read(CHUNK_BYTES)) for i, stream in enumerate(streams, start=1)]
            yield add_chunks(slots, chunks, values=chunk_values(values, index), threshold=threshold)
    finally:
        for stream in streams:
            stream.close()


def _row(
    way: str,
    updates: Updates,
    truth: NDArray[np.uint32],
    total: NDArray[np.uint32],
    *,
    processes: int,
    site_seconds: float,
    sum_seconds: float,
    upload_bytes: int,
) -> CkksRow:
    if not np.array_equal(total, truth):
        raise RuntimeError(f"{way}: the ring sum is not the plain one")
    error, bound = updates.mean_error(total)
    return CkksRow(
        way=way,
        values=updates.values,
        sites=updates.sites,
        processes=processes,
        site_seconds=site_seconds,
        sum_seconds=sum_seconds,
        upload_bytes=upload_bytes,
        bytes_per_value=upload_bytes / updates.values,
        expansion=upload_bytes / (4 * updates.values),
        deviation_quanta=0.0,
        mean_error=error,
        mean_bound=bound,
        ring_equal=True,
        trusted=TRUST["masks" if way == "masks" else "ckks, one holder"],
    )

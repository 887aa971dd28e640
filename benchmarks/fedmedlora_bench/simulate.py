"""`bench simulate`: one secure sum of many sites with drop-outs, by the real state machines, in process.

Nothing is shortened: every site makes keys, checks everybody's, deals, opens its inbox, masks, agrees and
opens; the coordinator checks and unmasks. Only log, signatures and network are left out. The sum is compared
with the plain one bit by bit, and its decoding with the weighted mean in float64.
"""

from __future__ import annotations

import math
import secrets
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmedlora_bench.progress import Progress
from fedmedlora_bench.secagg.case import cores
from fedmedlora_bench.simulated_sites import Answer, Setting, StoredShares, peak_bytes
from fedmedlora_bench.simulated_workers import Workers
from fedmedlora_core.errors import ConfigError
from fedmedlora_crypto.secagg import HYBRID_SUITE, MASKED_SUITE, Aggregator, SessionTerms, quorum
from fedmedlora_crypto.secagg.graph import Commitments, commitment, contribution
from fedmedlora_crypto.secagg.graph_parameters import COMPLETE_UP_TO, GraphTerms, least_graph
from fedmedlora_crypto.secagg.reference import reference_view
from fedmedlora_crypto.xof import Vector

__all__ = ["GROWTH", "Plan", "run_growth", "run_simulation", "simulation_line"]

GROWTH = (10, 30, 100, 300, 1000)
DROP_STEPS = ("share", "upload", "survivors", "unmask")
SITE_STEPS = ("advertise", *DROP_STEPS)
SUITES = {"hybrid": HYBRID_SUITE, "x25519": MASKED_SUITE}


@dataclass(frozen=True)
class Plan:
    """What is to be simulated.

    Attributes:
        sites: Number of sites; all are ready.
        drop: Part of them that fall silent, each at a random step.
        dimension: Values in an update.
        colluding: c; a third of the sites when None.
        key_agreement: "hybrid" or "x25519".
        seed: Seed of updates and drop-outs; keys and seeds of the protocol are random.
        workers: Processes that hold sites; one per core when None.
    """

    sites: int
    drop: float = 0.1
    dimension: int = 100_000
    colluding: int | None = None
    key_agreement: str = "hybrid"
    seed: int = 1
    workers: int | None = None

    @property
    def dropped(self) -> int:
        """How many sites fall silent."""
        return math.floor(self.sites * self.drop)

    def drop_outs(self) -> dict[str, list[int]]:
        """Return who falls silent at which step."""
        dice = np.random.default_rng((self.seed, 0))
        gone: dict[str, list[int]] = {step: [] for step in DROP_STEPS}
        for party in dice.choice(self.sites, self.dropped, replace=False) + 1:
            gone[DROP_STEPS[int(dice.integers(len(DROP_STEPS)))]].append(int(party))
        return gone

    def setting(self, folder: Path) -> Setting:
        """Make the constants of the session, and what the sites have committed to.

        Raises:
            ConfigError: So many drop-outs leave fewer sites than the threshold.
        """
        n = self.sites
        colluding = n // 3 if self.colluding is None else self.colluding
        threshold = quorum(n, colluding)
        if n - self.dropped < threshold:
            raise ConfigError(f"{n - self.dropped} sites would be left, the threshold is {threshold}")
        graph = least_graph(n, colluding=colluding, dropped=self.dropped) if n > COMPLETE_UP_TO else None
        given, commitments = dict.fromkeys(range(1, n + 1), b""), None
        if graph is not None:
            round_secrets = {i: secrets.token_bytes(32) for i in given}
            given = {i: contribution(secret, i, attempt=1) for i, secret in round_secrets.items()}
            heads = {i: commitment(secret, i) for i, secret in round_secrets.items()}
            commitments = Commitments(1, heads)
        suite = SUITES[self.key_agreement]
        terms = SessionTerms(secrets.token_bytes(32), n, threshold, colluding, suite, graph, commitments)
        return Setting(terms, given, self.dimension, self.seed, folder)


@dataclass
class Costs:
    """What one simulation cost, step by step."""

    sites: dict[str, list[Answer]] = field(default_factory=dict)
    coordinator: dict[str, float] = field(default_factory=dict)
    received: int = 0

    @contextmanager
    def coordinating(self, step: str) -> Iterator[None]:
        """Add the processor time of a block to the coordinator's step."""
        started = time.process_time()
        yield
        self.coordinator[step] = self.coordinator.get(step, 0.0) + time.process_time() - started

    def note(self, step: str, answer: Answer) -> None:
        """Keep what a site's step cost, without what it sent."""
        kept = Answer(answer.party, b"", answer.seconds, answer.sent, answer.received)
        self.sites.setdefault(step, []).append(kept)
        self.received += answer.sent

    def table(self) -> dict[str, Any]:
        """Return the costs: of a site per step and over those that did every step, and of the coordinator."""
        whole = set.intersection(*({a.party for a in answers} for answers in self.sites.values()))
        sums = {party: [0.0, 0, 0] for party in whole}
        for answer in (a for answers in self.sites.values() for a in answers if a.party in whole):
            for at, value in enumerate((answer.seconds, answer.sent, answer.received)):
                sums[answer.party][at] += value
        steps = {step: _spread([_costs(a) for a in answers]) for step, answers in self.sites.items()}
        sent = sum(a.received for answers in self.sites.values() for a in answers)
        return {
            "site": {**_spread(list(sums.values())), "steps": steps},
            "coordinator": {
                "seconds": sum(self.coordinator.values()),
                "steps": self.coordinator,
                "received_bytes": self.received,
                "sent_bytes": sent,
                "peak_bytes": peak_bytes(),
            },
        }


class Simulation:
    """One session: the coordinator here, the sites in the workers."""

    def __init__(self, plan: Plan, setting: Setting, workers: Workers, progress: Progress) -> None:
        """Take the parts; nothing has been said yet."""
        self._plan = plan
        self._setting = setting
        self._workers = workers
        self._progress = progress
        self._aggregator = Aggregator(setting.terms)
        self._gone = plan.drop_outs()
        self.costs = Costs()

    def run(self) -> tuple[Vector, tuple[int, ...]]:
        """Run all steps; returns the ring sum and the survivors."""
        coordinating, everybody = self.costs.coordinating, range(1, self._plan.sites + 1)
        advertised = {a.party: a.payload for a in self._each("advertise", self._workers.advertise(everybody))}
        with coordinating("advertise"):
            u1, _ = self._aggregator.admit(advertised)
        keys = {i: advertised[i] for i in u1}
        view = reference_view(self._setting.terms.sid, keys)
        shares = self._share(keys, view)
        total, survivors = self._upload(shares)
        signers = self._left(survivors, "survivors")
        for _ in self._each("survivors", self._workers.each("agree", survivors, signers)):
            pass
        answering = self._left(signers, "unmask")
        answers = self._workers.each("open", survivors, signers, answering)
        opened = {a.party: a.payload for a in self._each("unmask", answers)}
        with coordinating("unmask"):
            self._aggregator.unmask(total, keys, shares, survivors, opened, threads=cores())
        return total, survivors

    def _share(self, keys: Mapping[int, bytes], view: bytes) -> StoredShares:
        """Let all deal; each payload is checked as it comes."""
        with self.costs.coordinating("share"):
            self._graph = self._aggregator.graph(keys)
        senders = self._left(keys, "share")
        shares = StoredShares(self._setting.folder, senders)
        for answer in self._each("share", self._workers.each("share", keys, view, senders)):
            with self.costs.coordinating("share"):
                holders = self._graph.holders_of(answer.party)
                self._aggregator.check_shares(answer.party, shares[answer.party], holders=holders, view=view)
        return shares

    def _upload(self, shares: StoredShares) -> tuple[Vector, tuple[int, ...]]:
        """Let those that are there mask and upload; each vector is added as it comes."""
        u2, uploaders = tuple(shares), self._left(shares, "upload")
        total: Vector = np.zeros(self._plan.dimension + 1, dtype=np.uint32)
        answers = self._workers.each("upload", u2, self._graph.ring, uploaders)
        for answer in self._each("upload", answers):
            with self.costs.coordinating("upload"):
                total += np.frombuffer(answer.payload, dtype="<u4")
        return total, uploaders

    def _left(self, parties: Iterable[int], step: str) -> tuple[int, ...]:
        return tuple(i for i in parties if i not in self._gone[step])

    def _each(self, step: str, answers: Iterator[Answer]) -> Iterator[Answer]:
        for answer in answers:
            self.costs.note(step, answer)
            self._progress.advance(f"{self._plan.sites} sites: {step}")
            yield answer


def run_simulation(plan: Plan, *, progress: Progress) -> dict[str, Any]:
    """Simulate one session and compare its sum with the plain one.

    Args:
        plan: What is to be simulated.
        progress: Where to show how far it is.

    Returns:
        Whether the sum is exact, the error of its decoding beside its bound, and the costs: seconds are
        processor time, bytes are those of the protocol's payloads.

    Raises:
        ConfigError: The plan leaves too few sites.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        setting = plan.setting(Path(folder))
        count = plan.workers or cores()
        progress.begin(f"{plan.sites} sites", 5 * plan.sites)
        workers = Workers(setting, min(count, plan.sites))
        try:
            simulation = Simulation(plan, setting, workers, progress)
            total, survivors = simulation.run()
        finally:
            workers.close()
    return {
        **_facts(plan, setting.terms),
        **_comparison(setting, total, survivors),
        **simulation.costs.table(),
        "workers": count,
        "worker_peak_bytes": workers.most_bytes,
        "wall_seconds": time.perf_counter() - started,
    }


def run_growth(plan: Plan, *, sizes: Collection[int] = GROWTH, progress: Progress) -> list[dict[str, Any]]:
    """Simulate the same plan with growing numbers of sites."""
    return [run_simulation(replace(plan, sites=size), progress=progress) for size in sizes]


def simulation_line(run: Mapping[str, Any]) -> str:
    """Say what a simulation found, in one line for people."""
    site, coordinator = run["site"], run["coordinator"]
    exact = "exact" if run["correct"] else "WRONG"
    return (
        f"{run['sites']} sites, {sum(run['dropped'].values())} dropped, {run['neighbours']} neighbours: "
        f"{exact}, error {run['max_error']:.1e} (bound {run['error_bound']:.1e}); "
        f"a site {site['seconds']['mean']:.2f} s, {site['sent_bytes']['mean'] / 1e6:.2f} MB sent, "
        f"{site['received_bytes']['mean'] / 1e6:.1f} MB received; "
        f"coordinator {coordinator['seconds']:.1f} s; {run['wall_seconds']:.0f} s in all"
    )


def _facts(plan: Plan, terms: SessionTerms) -> dict[str, Any]:
    """Say what was simulated."""
    graph = terms.graph or GraphTerms(terms.n - 1, terms.threshold, 0)
    return {
        "sites": terms.n,
        "dimension": plan.dimension,
        "suite": terms.suite,
        "colluding": terms.colluding,
        "threshold": terms.threshold,
        "graph": "complete" if terms.graph is None else "k-regular",
        "neighbours": graph.neighbours,
        "share_threshold": graph.share_threshold,
        "window_survivors": graph.window_survivors,
        "dropped": {step: len(gone) for step, gone in plan.drop_outs().items()},
    }


def _comparison(setting: Setting, total: Vector, survivors: Collection[int]) -> dict[str, Any]:
    """Compare the ring sum with the plain one, and its decoding with the mean in float64."""
    plain: Vector = np.zeros_like(total)
    weighted: NDArray[np.float64] = np.zeros(setting.dimension)
    weights = 0
    for party in survivors:
        values, weight = setting.update_of(party)
        plain += setting.encoded(party)
        weighted += values.astype(np.float64) * weight
        weights += weight
    mean, weight_sum, _ = setting.codec.decode(total)
    exact = weighted / weights
    half_ulp = float(np.spacing(np.abs(mean).max())) / 2
    return {
        "survivors": len(survivors),
        "correct": bool(np.array_equal(total, plain)) and weight_sum == weights,
        "max_error": float(np.abs(mean - exact).max()),
        "error_bound": setting.codec.error_bound(weight_sum=weight_sum, m=len(survivors)) + half_ulp,
    }


def _costs(answer: Answer) -> list[float]:
    return [answer.seconds, answer.sent, answer.received]


def _spread(rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return mean and maximum of seconds, bytes sent and bytes received."""
    names = ("seconds", "sent_bytes", "received_bytes")
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return {name: {"mean": fmean(column), "max": max(column)} for name, column in columns}

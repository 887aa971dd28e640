"""A whole federation on one machine, real but for the model: processes, mutual TLS, masks, log.

`Federation.build` runs the operators' commands in their order (init, invite, enrol, pin, import, study,
accept); `coordinator()` and `site()` start processes. The sites train with the rehearsal trainer, so that a
run of several rounds takes seconds.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedmedlora_coordinator.invites import invite
from fedmedlora_coordinator.settings import Timing
from fedmedlora_coordinator.setup import Initialised, init
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.config import parse_table
from fedmedlora_core.records import Entity, Note, write_notes
from fedmedlora_core.study import INITIAL_FOLDER, STUDY_FILE, Study, threshold_for
from fedmedlora_site.acceptance import accept
from fedmedlora_site.config import NetworkSection, SiteConfig
from fedmedlora_site.enrolment import enroll
from fedmedlora_site.pins import Card, add_cards

SITE_IDS = ("site-a", "site-b", "site-c", "site-d")
PATIENT = Timing(
    grace_seconds=120, ready_grace_seconds=120, abort_seconds=240, step_seconds=240, training_seconds=300
)
"""A site that is started again at once is waited for, however busy the machine."""
_SERVE = """
from pathlib import Path
from fedmedlora_coordinator.runtime import serve
serve(Path({root!r}), {more})
"""
_RUN = """
from pathlib import Path
from fedmedlora_site.agent import run
run(Path({root!r}), {more})
"""


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def small_adapter(dimension: int = 600, seed: int = 1) -> Adapter:
    """An adapter without a model: one frozen and two trainable tensors."""
    generator = np.random.default_rng(seed)
    half = dimension // 2
    tensors = {
        "layer.0.lora_A.weight": generator.normal(0, 0.1, (4, 8)).astype(np.float32),
        "layer.0.lora_B.weight": np.zeros((half, 1), dtype=np.float32),
        "layer.1.lora_B.weight": np.zeros((dimension - half, 1), dtype=np.float32),
    }
    return Adapter(tensors, ("layer.0.lora_B.weight", "layer.1.lora_B.weight"), {"peft_type": "LORA"})


def plain_notes(site: str, count: int = 6) -> list[Note]:
    """Notes that name their site, so that a leak of one would be seen."""
    text = f"Canary {site} reports chest pain ."
    start = text.index("chest pain")
    entity = Entity("T1", "problem", start, start + len("chest pain"))
    return [
        Note(f"{site}-{i}", f"{site}-patient-{i}", text, (entity,), (), frozenset({"problem"}))
        for i in range(count)
    ]


def study_of(
    cards: list[Card],
    made: Initialised,
    adapter: Adapter,
    *,
    rounds: int = 2,
    mode: str = "masks",
    title: str = "Rehearsal",
    vote: dict[str, int] | None = None,
    graph: dict[str, int] | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Study:
    """A study of these members with the smallest sensible numbers; with a graph one of them may collude.

    `changes` are keys of sections that are set on top; a section that is not there is made.
    """
    n = len(cards)
    annotated = {"annotated": ["problem"]} if "validation" in str(changes) else {}
    c = 1 if graph else max(1, n // 3)
    table: dict[str, Any] = {
        "schema": "fedmedlora-study/1",
        "study": {"id": "rehearsal", "title": title, "seed": 7},
        "log": {
            "origin": made.log_vkey.split("+")[0],
            "log_vkey": made.log_vkey,
            "coordinator_vkey": made.coordinator_vkey,
        },
        "model": {"kind": "causal", "name": "none", "digest": "0" * 64},
        "adapter": {
            "rank": 4,
            "alpha": 8,
            "targets": ["q_proj"],
            "mode": "ffa",
            "initial_digest": adapter.digest,
            "dimension": adapter.dimension,
        },
        "labels": {"entities": ["problem"], "modifiers": [], "tasks": ["ner"]},
        "training": {
            "rounds": rounds,
            "local_epochs": 1,
            "batch_size": 4,
            "learning_rate_micro": 1000,
            "max_tokens": 64,
        },
        "aggregation": {"rule": "fedmedlora", "weight_scale": 16, "weight_max": 4096},
        "secure_aggregation": {
            "mode": mode,
            "colluding_sites": c,
            "threshold": threshold_for(n, c),
            "min_sites": 3,
            "clip_value_micro": 50_000,
            "clip_norm_micro": 5_000_000,
            **({} if vote is None else {"vote": vote}),
            **({"graph": graph} if graph else {}),
        },
        "splits": {"seed": 1, "validation_percent": 10, "test_percent": 10},
        "members": [
            {"id": card.id, "event_vkey": card.event_vkey, "witness_vkey": card.witness_vkey, **annotated}
            for card in cards
        ],
    }
    for section, keys in (changes or {}).items():
        table[section] = {**table.get(section, {}), **keys}
    return parse_table(table, Study, name="study")


@dataclass
class Federation:
    """One federation's folders; nothing is shared between them."""

    root: Path
    ids: tuple[str, ...]
    study: Study
    adapter: Adapter

    @property
    def coordinator_root(self) -> Path:
        """The coordinator's folder."""
        return self.root / "coordinator"

    @property
    def package(self) -> Path:
        """The study package."""
        return self.root / "package"

    def site_root(self, site: str) -> Path:
        """One site's folder."""
        return self.root / site

    @classmethod
    def build(
        cls,
        root: Path,
        *,
        name: str = "ward.example",
        ids: tuple[str, ...] = SITE_IDS,
        rounds: int = 2,
        mode: str = "masks",
        dimension: int = 600,
        timing: Timing = PATIENT,
        vote: dict[str, int] | None = None,
        graph: dict[str, int] | None = None,
        adapter: Adapter | None = None,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        store_url: str = "",
    ) -> Federation:
        """Run every command up to `site accept`."""
        federation, enrolment = (f"127.0.0.1:{free_port()}" for _ in range(2))
        made = init(
            root / "coordinator",
            name=name,
            address=federation,
            enrolment_address=enrolment,
            timing=timing,
            store_url=store_url,
        )
        cards = []
        with enrolling(root / "coordinator", enrolment):
            for site in ids:
                invitation = invite(root / "coordinator", site, out=root / f"{site}.invitation.json")
                cards.append(enroll(invitation, root / site, trainer="rehearsal"))
        adapter = adapter or small_adapter(dimension)
        study = study_of(
            cards, made, adapter, rounds=rounds, mode=mode, vote=vote, graph=graph, changes=changes
        )
        package = root / "package"
        study.write(package / STUDY_FILE)
        adapter.save(package / INITIAL_FOLDER)
        for site in ids:
            folder = root / site
            add_cards(folder, [root / other / "card.toml" for other in ids])
            write_notes(folder / "data" / "notes.jsonl", plain_notes(site))
            quick = NetworkSection(reconnect_first_seconds=0.05, reconnect_most_seconds=0.5)
            config = SiteConfig.load(folder / "site.toml").model_copy(update={"network": quick})
            config.write(folder / "site.toml")
            if mode == "none":
                (folder / "policy.toml").write_text("secure_aggregation_required = false\n")
            accept(folder, package)
        return cls(root, ids, study, adapter)

    def coordinator(self, more: str = "") -> subprocess.Popen[bytes]:
        """Start the coordinator's process; it ends with the run."""
        options = f"study=Path({str(self.package)!r}), until_closed=True, progress=True, {more}"
        return start(
            _SERVE.format(root=str(self.coordinator_root), more=options), self.root / "coordinator.log"
        )

    def site(self, site: str, more: str = "") -> subprocess.Popen[bytes]:
        """Start one site's agent."""
        options = f"progress=True, {more}"
        return start(_RUN.format(root=str(self.site_root(site)), more=options), self.root / f"{site}.log")


def start(code: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a Python process whose output goes to a file; it can import this package too."""
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, "-c", code], stdout=out, stderr=out, env=environment)


def finish(process: subprocess.Popen[bytes], seconds: float = 60.0) -> int:
    """Wait for a process; kill it when it takes too long."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@contextmanager
def enrolling(coordinator: Path, address: str) -> Iterator[None]:
    """A coordinator that only enrols, listening at `address`."""
    process = start(_SERVE.format(root=str(coordinator), more=""), coordinator.parent / "enrolment.log")
    try:
        wait_for_port(int(address.split(":")[1]))
        yield
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(20)


def wait_for_port(port: int, seconds: float = 20.0) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens on port {port}")
        time.sleep(0.05)

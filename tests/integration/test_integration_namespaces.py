"""docs/OPERATIONS.md, "From bare hosts to a released adapter", typed on hosts that share only a network.

One setting-up serves two runs: one undisturbed, one with a cut line, a slow line, killed processes and a new
certificate. The faults are placed where the log stands, so that they hit the same moment on any machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedmedlora_cli.demo.records import read_rounds
from fedmedlora_coordinator.certificate_commands import listed
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.clinic import generate
from fedmedlora_core.records import write_notes
from fedmedlora_core.study import Study
from fedmedlora_testkit.namespaces import Namespaces, network_of
from fedmedlora_testkit.walkthrough import (
    PATIENCE_SECONDS,
    Block,
    Typist,
    documented_variables,
    of_section,
    read_blocks,
    write_command,
)

pytestmark = pytest.mark.slow

SITES = ("st-anne", "st-john", "st-luke", "st-mary")
RENEWED, SLOW, KILLED, CUT = SITES
CENTRE, DESK = "centre", "desk"
CUT_SECONDS = float(os.environ.get("FEDMEDLORA_CUT_SECONDS", "5"))
SECTIONS = {
    "before": ("Making the federation", "Knowing each other", "Rehearsing", "Agreeing on a study"),
    "training": ("Training",),
    "after": ("Releasing and reviewing",),
}
HOSTS = {
    "the coordinator": (CENTRE,),
    "the author's desk": (DESK,),
    "the reviewer's desk": (DESK,),
    "every site": SITES,
    "every site, for a rehearsal": SITES,
    "the site that asks for the review": SITES[:1],
    "a site that renews its certificate": (RENEWED,),
}


class Walk:
    """One walk through the document: one federation's folders, and the hands that type there.

    Args:
        root: Where the folders of all hosts lie, each host using its own.
        hosts: The hosts.
        commands: Folder in which `fedmedlora` lies.
    """

    def __init__(self, root: Path, hosts: Namespaces, commands: Path) -> None:
        self.root, self.hosts = root, hosts
        self.carried = root / "carried"
        variables = {host: self._variables(host) for host in (CENTRE, DESK, *SITES)}
        assert {name for found in variables.values() for name in found} == documented_variables()
        self.typist = Typist(hosts, commands, root / "logs", variables)

    def _variables(self, host: str) -> dict[str, str]:
        found = {"CARRIED": str(self.carried), "SITES": " ".join(SITES)}
        if host == CENTRE:
            found |= {"COORDINATOR_HOST": self.hosts.address(CENTRE)}
            found |= {"COORDINATOR_DIR": str(self.root / CENTRE)}
        if host in SITES:
            found |= {"SITE": host, "SITE_DIR": str(self.root / host)}
            found |= {"NOTES": str(self.root / f"{host}.notes.jsonl")}
        return found

    def write_notes(self) -> None:
        """What the hospitals have before anything begins."""
        self.carried.mkdir(parents=True)
        for site, notes in zip(SITES, generate(len(SITES), seed=5, sentences=60).values(), strict=True):
            write_notes(self.root / f"{site}.notes.jsonl", notes)

    def type_all(self, part: str) -> None:
        """Type every block of a part of the document, in its order."""
        for block in of_section(read_blocks(), *SECTIONS[part]):
            self.typist.type_at(HOSTS[block.role], block)
            if block.running:  # the document has people wait for this line
                await_that(lambda: "serving from" in self.typist.said(CENTRE), "the coordinator serves")

    def lines(self, host: str) -> list[dict[str, object]]:
        """What the process of a host has logged."""
        path = self.root / host / ("serve.log" if host == CENTRE else "run.log")
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]

    def has(self, host: str, event: str, number: int) -> bool:
        """Whether a host has logged an event of a round."""
        wanted = {"event": event, "round": number}
        return any(wanted.items() <= line.items() for line in self.lines(host))

    def finish(self) -> None:
        """Wait until the study is closed everywhere; nothing runs afterwards."""
        assert [self.typist.ended(host) for host in (CENTRE, *SITES)] == [0] * 5
        assert self.hosts.processes() == []

    @property
    def released(self) -> Path:
        """The adapter that the coordinator hands out."""
        return self.carried / "released"

    def weights(self) -> bytes:
        """Its weights, to the bit."""
        return (self.released / "adapter_model.safetensors").read_bytes()


def await_that(happened: Callable[[], bool], what: str) -> None:
    """Look again and again until something is so."""
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, threading.Event()
    while not happened():
        assert time.monotonic() < deadline, f"never happened: {what}"
        pause.wait(0.05)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Namespaces]:
    with network_of((CENTRE, *SITES), alone=(DESK,)) as network:
        yield network


@pytest.fixture(scope="module")
def agreed(hosts: Namespaces, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """Everything up to the acceptance, from bare hosts, by the document alone."""
    root = tmp_path_factory.mktemp("walkthrough")
    walk = Walk(root / "agreed", hosts, write_command(root / "bin"))
    walk.write_notes()
    try:
        walk.type_all("before")
        walk.typist.stop(CENTRE)
    finally:
        walk.typist.stop_all()
    return walk


def copy_of(walk: Walk, name: str) -> Walk:
    """The same federation at the same addresses, before its training."""
    root = walk.root.with_name(name)
    shutil.copytree(walk.root, root)
    return Walk(root, walk.hosts, walk.typist.commands)


def blocks_of_training() -> tuple[Block, Block, Block]:
    """Serving, taking part, and the certificate that is renewed meanwhile."""
    serve, run, renew = of_section(read_blocks(), *SECTIONS["training"])
    assert (HOSTS[serve.role], HOSTS[run.role], HOSTS[renew.role]) == ((CENTRE,), SITES, (RENEWED,))
    assert (serve.running, run.running, renew.running) == (True, True, False)
    return serve, run, renew


def train_undisturbed(walk: Walk) -> None:
    serve, run, _ = blocks_of_training()
    walk.typist.type_at((CENTRE,), serve)
    walk.typist.type_at(SITES, run)
    walk.finish()


def train_disturbed(walk: Walk) -> None:
    """A line cut over the plan of round 2, and everything else while the round waits for that site."""
    typist, hosts = walk.typist, walk.hosts
    serve, run, renew = blocks_of_training()
    hosts.slow_down(SLOW, "1mbit")
    typist.start(CENTRE, serve, "--die-at train:2:before")
    typist.type_at(SITES, run)
    assert typist.ended(CENTRE) == -signal.SIGKILL
    hosts.cut(CUT)
    mended_at = time.monotonic() + CUT_SECONDS
    typist.start(CENTRE, serve, "--die-at unmask:3:after")
    await_that(lambda: walk.has(KILLED, "training_done", 2), "the update of round 2")
    typist.kill(KILLED)
    typist.start(KILLED, run)
    typist.type_at((RENEWED,), renew)
    await_that(lambda: time.monotonic() >= mended_at, "the end of the cut")  # the disturbance itself
    assert walk.has(CENTRE, "round_closed", 1) and not walk.has(CENTRE, "round_closed", 2)
    hosts.mend(CUT)
    assert typist.ended(CENTRE) == -signal.SIGKILL
    typist.start(CENTRE, serve)
    walk.finish()


def test_every_block_of_the_document_is_typed() -> None:
    blocks = read_blocks()
    assert {block.section for block in blocks} == {name for part in SECTIONS.values() for name in part}
    assert {block.role for block in blocks} == HOSTS.keys()


def assert_reviewed(walk: Walk) -> None:
    """The reviewer's verdict is a pass, with every site's own head, over rounds that had everybody."""
    verdict = json.loads((walk.carried / "verdict.json").read_text())
    assert verdict["verdict"] == "pass", verdict
    assert verdict["checks"]["C6"]["count"] == len(SITES)
    study = Study.load(walk.carried / "study")
    rows = read_rounds(walk.carried / "bundle.tar.gz", study)
    assert [(row.outcome, row.dropped) for row in rows] == [("closed", ())] * study.training.rounds


@pytest.mark.long
def test_a_study_by_the_document_ends_the_same_whatever_happens_to_lines_and_processes(
    agreed: Walk,
) -> None:
    calm, stormy = copy_of(agreed, "calm"), copy_of(agreed, "stormy")
    for walk, train in ((calm, train_undisturbed), (stormy, train_disturbed)):
        try:
            train(walk)
            walk.type_all("after")
        finally:
            walk.typist.stop_all()
        assert_reviewed(walk)
    assert stormy.weights() == calm.weights()
    assert Adapter.load(stormy.released).digest != Adapter.load(agreed.carried / "study/initial").digest
    served = [line["event"] for line in stormy.lines(CENTRE)].count("serving")
    taken_part = [line["event"] for line in stormy.lines(KILLED)].count("taking_part")
    assert (served, taken_part) == (3, 2)
    certificates = [
        (row["site"], row["state"]) for row in listed(stormy.root / CENTRE) if row["of"] == "site"
    ]
    assert certificates.count((RENEWED, "renewed")) == 1 and (RENEWED, "valid") in certificates

"""A federation of real processes of which one after the other is killed, at whatever it was doing."""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from fedmedlora_cli.demo.federation import Federation
from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_cli.demo.parties import Progress
from fedmedlora_cli.demo.records import read_log
from fedmedlora_core.study import Study


@dataclass(frozen=True)
class Kill:
    """One kill -9: of whom, and after how many more events of the log have been seen."""

    party: str
    events: int


def drawn_kills(parties: Sequence[str], count: int, *, most_events: int, seed: int) -> list[Kill]:
    """Draw kills; the same seed gives the same list, the scheduler of the machine does the rest."""
    draw = random.Random(seed)  # noqa: S311 - a test plan, not a secret
    return [Kill(parties[k % len(parties)], draw.randint(1, most_events)) for k in range(count)]


class Storm(Federation):
    """A federation that is killed by a plan; whoever is killed is started again at once.

    The kill is sent from the thread that reads the coordinator's progress lines, so it hits the victim in
    whatever it does at that moment, between two instructions or two writes.
    """

    def __init__(self, options: DemoOptions, kills: Sequence[Kill]) -> None:
        super().__init__(options, lambda party, progress: None)
        self.plan = list(kills)
        self.struck: list[str] = []
        self._seen = 0

    def _observe(self, party: str, progress: Progress) -> None:
        super()._observe(party, progress)
        if party != "coordinator" or "index" not in progress or not self.plan:
            return
        self._seen += 1
        victim = self._running.get(self.plan[0].party)
        if self._seen < self.plan[0].events or victim is None or victim.exit_code is not None:
            return
        self._seen = 0
        self.struck.append(self.plan.pop(0).party)
        victim.process.send_signal(signal.SIGKILL)

    def _supervise(self, pending: list[str], restart_after: dict[str, int]) -> None:
        for name, party in list(self._running.items()):
            code = party.exit_code
            if code is None:
                continue
            party.wait()
            del self._running[name]
            if code == -signal.SIGKILL and name == "coordinator":
                self._start_coordinator([])
            elif code == -signal.SIGKILL:
                self._start_site(name, None)
                self._returned.add(name)
            elif code != 0:
                raise party.failure()
        self._stop_latecomers()


def assert_nothing_acknowledged_is_lost(federation: Federation) -> None:
    """Every event in a site's outbox that has its receipt is in the exported log, byte for byte."""
    _, entries = read_log(federation.bundle, Study.load(federation.study))
    logged = {entry.note for entry in entries}
    for site_id in federation.options.site_ids:
        sent = [path.read_bytes() for path in (federation.site(site_id) / "run").rglob("*.note")]
        assert sent, "the outbox keeps what was sent"
        assert all(note in logged for note in sent)

"""The federation of the demo: provision, agree, train, review, each step a command of the product.

The order is the life of a study (docs/ARCHITECTURE.md): what people would carry between hospitals by hand
(invitations, cards, the study package) is copied from folder to folder here; nothing else is shared.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fedmedlora_bench.local_processes import free_ports
from fedmedlora_cli.demo.clinic import write_clinic
from fedmedlora_cli.demo.options import DemoOptions, Fault
from fedmedlora_cli.demo.parties import (
    KILLED,
    DemoError,
    Party,
    Progress,
    Transcript,
    run_command,
    run_commands,
)

FEDERATION = "fedmedlora.example/demo"
POLL_SECONDS = 0.1
LATECOMER_SECONDS = 10.0  # enough to write down an end that was read
ROUND_ENDS = frozenset({"round.closed", "round.aborted", "round.rolled_back"})


class Federation:
    """The processes and folders of one demo run.

    Args:
        options: What to run.
        on_progress: Called from reader threads with (party, progress line).
    """

    def __init__(self, options: DemoOptions, on_progress: Callable[[str, Progress], None]) -> None:
        """Lay out the folders; nothing runs yet."""
        self.options = options
        self.out = options.out
        self.coordinator = self.out / "coordinator"
        self.study = self.out / "study"
        self.bundle = self.out / "bundle"
        self.trust = self.out / "trust.json"
        self.logs = self.out / "logs"
        self.transcript = Transcript(self.out / "commands.txt")
        self._on_progress = on_progress
        self._rounds_over: set[int] = set()
        self._returned: set[str] = set()
        self._done_at = 0.0
        self._lock = threading.Lock()
        self._running: dict[str, Party] = {}
        self.killed: list[Fault] = []

    def site(self, site_id: str) -> Path:
        """Folder of one hospital."""
        return self.out / site_id

    def provision(self) -> None:
        """Make the federation's CA and each hospital's keys and certificate; exchange the cards."""
        ports = free_ports(2)
        run_command(
            [
                "coordinator", "init", str(self.coordinator),
                "--name", FEDERATION,
                "--address", f"127.0.0.1:{ports[0]}",
                "--enrolment-address", f"127.0.0.1:{ports[1]}",
                "--grace-seconds", str(self.options.grace_seconds),
            ],
            self.transcript,
        )  # fmt: skip
        if self.options.keep_evidence:
            settings = self.coordinator / "coordinator.toml"
            settings.write_text(settings.read_text().replace('"shred"', '"keep"'), encoding="utf-8")
        enrolment = self._start("coordinator", ["coordinator", "serve", "--dir", str(self.coordinator)])
        try:
            for site_id in self.options.site_ids:
                invitation = self.out / "carried" / f"{site_id}.invitation.json"
                invitation.parent.mkdir(exist_ok=True)
                run_command(
                    [
                        "coordinator",
                        "invite",
                        site_id,
                        "--dir",
                        str(self.coordinator),
                        "--out",
                        str(invitation),
                    ],
                    self.transcript,
                )
            run_commands([self._enrol_arguments(s) for s in self.options.site_ids], self.transcript)
            self._fix_rounding()
            if self.options.rehearsal:
                self._rehearse()
        finally:
            enrolment.stop()
            self._running.pop("coordinator", None)

    def _fix_rounding(self) -> None:
        """Derive each site's rounding secret from the demo's seed instead of the one it drew.

        Two runs of the demo with one seed can then be compared bit for bit: with and without masks, with and
        without a killed coordinator. Real hospitals keep the secret they drew; the keys are drawn here too.
        """
        for site_id in self.options.site_ids:
            text = f"fedmedlora/demo/rounding|{self.options.seed}|{site_id}"
            secret = self.site(site_id) / "keys" / "round.secret"
            secret.write_bytes(hashlib.sha256(text.encode()).digest())

    def _rehearse(self) -> None:
        """Have each site make small updates without a model, so that the protocol can be tried in seconds."""
        for site_id in self.options.site_ids:
            config = self.site(site_id) / "site.toml"
            text = config.read_text(encoding="utf-8")
            config.write_text(text.replace('kind = "process"', 'kind = "rehearsal"'), encoding="utf-8")

    def _enrol_arguments(self, site_id: str) -> list[str]:
        invitation = self.out / "carried" / f"{site_id}.invitation.json"
        return ["site", "enroll", str(invitation), "--dir", str(self.site(site_id))]

    def import_notes(self) -> None:
        """Write each hospital's synthetic notes and import them there."""
        sources = write_clinic(self.out, self.options)
        run_commands(
            [
                ["site", "import", str(sources[s]), "--dir", str(self.site(s)), "--format", "jsonl"]
                for s in self.options.site_ids
            ],
            self.transcript,
        )

    def agree(self) -> None:
        """Pin every other member's card, write the study, and have each hospital accept it."""
        cards = {s: str(self.site(s) / "card.toml") for s in self.options.site_ids}
        run_commands(
            [
                [
                    "site",
                    "pin",
                    *[cards[o] for o in self.options.site_ids if o != s],
                    "--dir",
                    str(self.site(s)),
                ]
                for s in self.options.site_ids
            ],
            self.transcript,
        )
        arguments = ["study", "new", "--out", str(self.study), "--id", "demo", "--profile", "tiny"]
        arguments += ["--title", "Synthetic clinic", "--seed", str(self.options.seed)]
        arguments += ["--coordinator-card", str(self.coordinator / "card.toml")]
        arguments += ["--secure", self.options.secure]
        if self.options.secure == "ckks":
            arguments += self._ckks_arguments()
        if self.options.rounds is not None:
            arguments += ["--rounds", str(self.options.rounds)]
        if self.options.rounds_between_votes:
            arguments += ["--vote-every", str(self.options.rounds_between_votes)]
        if self.options.validate_every:
            arguments += ["--validate-every", str(self.options.validate_every)]
        if self.options.dp_epsilon is not None:
            arguments += ["--dp-epsilon", f"{self.options.dp_epsilon:g}"]
        for name in self.options.strategies:
            arguments += ["--strategy", name]
        for site_id in self.options.site_ids:
            arguments += ["--member", cards[site_id]]
        run_command(arguments, self.transcript)
        if self.options.secure == "none":
            self._allow("secure_aggregation_required = false")
        if self.options.secure == "ckks":
            self._hand_out_keys()
        run_commands(
            [["site", "accept", str(self.study), "--dir", str(self.site(s))] for s in self.options.site_ids],
            self.transcript,
        )

    def _allow(self, line: str) -> None:
        """What weakens a study each hospital's operator has to allow in the policy."""
        for site_id in self.options.site_ids:
            policy = self.site(site_id) / "policy.toml"
            text = policy.read_text(encoding="utf-8")
            policy.write_text(f"{text}{line}\n", encoding="utf-8")

    def _ckks_arguments(self) -> list[str]:
        """Have the first hospital make the CKKS key; returns what `study new` has to know of it."""
        first, context = self.options.site_ids[0], self.out / "carried" / "ckks-context.bin"
        arguments = ["site", "ckks-key", "--dir", str(self.site(first)), "--out", str(context)]
        shared = self.options.ckks_custody == "shared"
        if shared:
            arguments += ["--shared-key-out", str(self.out / "carried" / "ckks.key")]
        run_command(arguments, self.transcript)
        self._allow("ckks_shared_key_allowed = true" if shared else f'ckks_key_holder = "{first}"')
        found = ["--ckks-context", str(context), "--ckks-custody", self.options.ckks_custody]
        return found if shared else [*found, "--ckks-holder", first]

    def _hand_out_keys(self) -> None:
        """Under a shared CKKS key every other hospital receives it by hand, and the copy goes."""
        key, context = self.out / "carried" / "ckks.key", self.out / "carried" / "ckks-context.bin"
        if self.options.ckks_custody == "holder":
            return
        run_commands(
            [
                ["site", "ckks-import", str(key), "--dir", str(self.site(s)), "--context", str(context)]
                for s in self.options.site_ids[1:]
            ],
            self.transcript,
        )
        key.unlink()

    def train(self) -> None:
        """Run coordinator and hospitals until the study is closed, killing and restarting as asked.

        Raises:
            DemoError: A party ended that was not killed on purpose.
        """
        pending = self.planned_kills()
        self._start_coordinator(pending)
        for site_id in self.options.site_ids:
            fault = next((f for f in self.options.drops if f.party == site_id), None)
            self._start_site(site_id, fault)
        restart_after: dict[str, int] = {}
        try:
            while self._running:
                self._supervise(pending, restart_after)
                time.sleep(POLL_SECONDS)
        finally:
            for party in list(self._running.values()):
                party.stop()

    def planned_kills(self) -> list[str]:
        """Where the coordinator is to be killed, in the order of the study."""
        kill = self.options.coordinator_kill
        return [] if kill is None else [f"{kill.step}:{kill.round}:{when}" for when in ("before", "after")]

    def own_adapters(self) -> dict[str, Path]:
        """Have each hospital export the adapter that it uses, where a part of it is its own."""
        if not self.options.leaves_a_part:
            return {}
        found = {s: self.out / "own-adapters" / s for s in self.options.site_ids}
        run_commands(
            [["site", "personal", "--dir", str(self.site(s)), "--out", str(out)] for s, out in found.items()],
            self.transcript,
        )
        return found

    def clipped(self) -> dict[str, float]:
        """Mean share of clipped values by closed round, in thousandths, from the coordinator's status."""
        status = self.out / "coordinator-status.json"
        arguments = ["coordinator", "status", "--dir", str(self.coordinator), "--json", str(status)]
        run_command(arguments, self.transcript)
        return dict(json.loads(status.read_text(encoding="utf-8"))["clipped_permille"])

    def spent(self) -> int:
        """The most that this study has cost at any hospital, in thousandths of epsilon, from the ledgers."""
        found = []
        for site_id in self.options.site_ids:
            out = self.out / "logs" / f"{site_id}-ledger.json"
            arguments = ["site", "ledger", "--dir", str(self.site(site_id)), "--no-tight", "--json", str(out)]
            run_command(arguments, self.transcript)
            found.append(int(json.loads(out.read_text(encoding="utf-8"))["next"]["spent_milli"]))
        return max(found)

    def _supervise(self, pending: list[str], restart_after: dict[str, int]) -> None:
        """Reap ended parties; restart a killed coordinator at once, a killed site after its round."""
        for name, party in list(self._running.items()):
            code = party.exit_code
            if code is None:
                continue
            party.wait()
            del self._running[name]
            if code == KILLED and name == "coordinator" and pending:
                step, planned, _ = pending.pop(0).split(":")
                self.killed.append(Fault(name, step, int(planned)))
                self._start_coordinator(pending)
            elif code == KILLED and any(f.party == name for f in self.options.drops):
                fault = next(f for f in self.options.drops if f.party == name)
                self.killed.append(fault)
                restart_after[name] = fault.round
            elif code != 0:
                raise party.failure()
        for name, number in list(restart_after.items()):
            if number in self._rounds_over and "coordinator" in self._running:
                del restart_after[name]
                self._start_site(name, None)
                self._returned.add(name)
        self._stop_latecomers()

    def _stop_latecomers(self) -> None:
        """Stop hospitals that came back too late to read the end from a coordinator that is done.

        A real one would go on calling until its operator stops it or the coordinator serves again.
        """
        if "coordinator" in self._running:
            self._done_at = time.monotonic()
        elif time.monotonic() > self._done_at + LATECOMER_SECONDS:
            for name in self._returned & self._running.keys():
                self._running.pop(name).stop()

    def _start_coordinator(self, pending: Sequence[str]) -> None:
        arguments = ["coordinator", "serve", "--dir", str(self.coordinator), "--study", str(self.study)]
        arguments += ["--until-closed", "--progress"]
        if pending:
            arguments += ["--die-at", pending[0]]
        self._start("coordinator", arguments)

    def _start_site(self, site_id: str, fault: Fault | None) -> None:
        arguments = ["site", "run", "--dir", str(self.site(site_id)), "--progress"]
        if fault is not None:
            arguments += ["--die-at", f"{fault.step}:{fault.round}"]
        self._start(site_id, arguments)

    def _start(self, name: str, arguments: list[str]) -> Party:
        party = Party(
            name,
            arguments,
            transcript=self.transcript,
            log=self.logs / f"{name}.log",
            on_progress=self._observe,
        )
        self._running[name] = party
        return party

    def _observe(self, party: str, progress: Progress) -> None:
        number = progress.get("round")
        if progress.get("event") in ROUND_ENDS and isinstance(number, int):
            with self._lock:
                self._rounds_over.add(number)
        self._on_progress(party, progress)

    def review(self) -> dict[str, object]:
        """Export the bundle, build the trust file from the hospitals' pins, and judge the log offline.

        Returns:
            The verifier's JSON verdict; a verdict other than "pass" is returned, not raised.
        """
        run_command(
            ["coordinator", "export", "--dir", str(self.coordinator), "--out", str(self.bundle)],
            self.transcript,
        )
        first = self.options.site_ids[0]
        run_command(
            ["site", "trust", "--dir", str(self.site(first)), "--out", str(self.trust)], self.transcript
        )
        verdict = self.out / "verdict.json"
        arguments = ["audit", "verify", str(self.bundle), "--trust", str(self.trust)]
        arguments += ["--heads", str(self._collect_heads()), "--json", str(verdict)]
        try:
            run_command(arguments, self.transcript)
        except DemoError:
            if not verdict.exists():
                raise
        loaded = json.loads(verdict.read_text(encoding="utf-8"))
        if not isinstance(loaded, dict):
            raise DemoError("audit verify wrote no verdict")
        return loaded

    def _collect_heads(self) -> Path:
        """Copy each hospital's own last head and journal to where the reviewer looks for them.

        With one honest hospital's head a log that was cut or forked afterwards cannot pass.
        """
        heads = self.out / "heads"
        for site_id in self.options.site_ids:
            run, target = self.site(site_id) / "run", heads / site_id
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(run / "mirror" / "checkpoint", target / "checkpoint")
            if (run / "journal.jsonl").exists():
                shutil.copy(run / "journal.jsonl", target / "journal.jsonl")
        return heads


def clear_earlier_run(out: Path) -> None:
    """Remove an earlier demo's folder; refuse any other folder that is not empty.

    Raises:
        DemoError: The folder has other things in it.
    """
    if out.exists() and any(out.iterdir()):
        if not (out / "commands.txt").exists():
            raise DemoError(f"{out}: is not empty and not an earlier demo's folder; choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)

"""The offline verifier: judges a study from a bundle and a trust file alone (AUDIT "Verifier").

Order: files against the signed manifest; charter against the trust file; checkpoint; entries, root and
tiles; every event's form, signature and lawfulness; heads and journals fetched from the sites; sums, where
their evidence was handed in. A finding never stops the others: what can still be judged is judged, and what
cannot is said to be not judged.

Verdict: ``fail`` if any check failed; ``incomplete`` if none failed but a check that the charter asks for
could not be made; else ``pass``. Bad bundles never raise.

    verdict = verify_bundle(Path("bundle"), Trust.load(Path("trust.json")))
    print(verdict.verdict, verdict.checks["U2"].sentence)
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from fedmedlora_audit import bundle as of
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.checkpoint import Checkpoint, open_checkpoint
from fedmedlora_audit.checks import (
    CLAIMS,
    DP_CHECKS,
    HEAD_CHECKS,
    LAW_CHECKS,
    NO_BUDGET,
    NOTHING_PRUNED,
    UNJUDGED,
    WHOLE_CHECKS,
    times_applied,
)
from fedmedlora_audit.errors import AuditError, BundleError, EventError
from fedmedlora_audit.event_data import KeyRotated
from fedmedlora_audit.events import Entry, Event
from fedmedlora_audit.evidence import SumJudge
from fedmedlora_audit.exporters import later_keys
from fedmedlora_audit.finding import Finding
from fedmedlora_audit.heads import FetchedHead, judge_heads
from fedmedlora_audit.law import State, findings, fold
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.opening import Opened, open_events, uncollected
from fedmedlora_audit.residue import Residue
from fedmedlora_audit.retention_review import NO_CLOCK, gone_of, judge_remains, tail_sentence
from fedmedlora_audit.site_noise_review import judge_site_noise
from fedmedlora_audit.stamps import StampsJudged, judge_stamps
from fedmedlora_audit.tiles import Remains, claimed_size, hash_tiles, read_entries, read_remains, tile_names
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verdict import CheckResult, Verdict
from fedmedlora_audit.witnessing import JudgedWitnesses, judge_witnesses

__all__ = ["CheckResult", "Finding", "Verdict", "verify_bundle"]

Progress = Callable[[int, int], None]
MAX_FINDINGS: Final = 1000
PROGRESS_EVERY: Final = 64


@uncollected()
def verify_bundle(
    path: Path,
    trust: Trust,
    heads: Path | None = None,
    sums: SumJudge | None = None,
    *,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    now: datetime | None = None,
) -> Verdict:
    """Judge a bundle.

    Args:
        path: The bundle: a folder, or a packed file.
        trust: What the auditor takes as given, received by another route.
        heads: Folder with one folder per site that holds its ``checkpoint`` and ``journal.jsonl``.
        sums: Recomputes sums from evidence that was handed in beside the bundle.
        workers: Processes for a long log, this one included (`open_events`); the verdict is the same.
        progress: Called now and then with the events judged and their number.
        now: The auditor's clock, by which no deletion lies ahead; None: deletions are not judged.

    Returns:
        The verdict; a bad bundle gives ``fail``, never an exception.
    """
    audit = _Audit(trust, now)
    try:
        files, problems = of.read_files(path)
    except (BundleError, OSError) as error:
        unread = BundleError("cannot be read", file=path.name)
        audit.file_problem(error if isinstance(error, BundleError) else unread)
        audit.not_judged |= dict.fromkeys(CLAIMS, "The bundle could not be read.")
        return audit.verdict()
    for problem in problems:
        audit.file_problem(problem)
    audit.judge_manifest(files)
    audit.judge_charter(files.get(of.CHARTER))
    audit.judge_checkpoint(files.get(of.CHECKPOINT))
    audit.judge_entries(files)
    audit.judge_events(workers, progress)
    audit.judge_remains()
    audit.judge_witnesses(files)
    audit.judge_stamps(files)
    audit.judge_heads(heads)
    audit.judge_sums(sums)
    audit.judge_site_noise()
    return audit.verdict()


class _Audit:
    """One run of the verifier: collects findings and counts as it goes down the list."""

    def __init__(self, trust: Trust, now: datetime | None) -> None:
        self.trust, self.now = trust, now
        self.residue = Residue(trust)
        self.book = trust.key_book()
        self.findings: list[Finding] = []
        self.broken: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.lawful: Counter[str] = Counter()  # events that the law judged
        self.not_judged: dict[str, str] = dict(UNJUDGED)
        self.found_true = {"H1": NOTHING_PRUNED}  # what a passed check says instead of its claim
        self.terms: CharterTerms | None = None
        self.head: Checkpoint | None = None
        self.tree = Tree()
        self.notes: list[bytes] = []
        self.indexes: Sequence[int] = ()  # of the notes; with gaps where entries were deleted
        self.read: list[tuple[int, Event]] = []  # events of the right form, signed or not
        self.entries: list[Entry] = []
        self.state: State | None = None
        self.remains: Remains | None = None  # of a log from which entries were deleted
        self.exporter: str | None = None
        self.promised: int | None = None
        self.witnesses = JudgedWitnesses()
        self.stamps = StampsJudged("")
        self.fetched: Mapping[str, FetchedHead] = {}

    # -- findings

    def find(self, check: str, sentence: str, index: int | None = None, file: str | None = None) -> None:
        if len(self.findings) < MAX_FINDINGS or check not in self.broken:  # no check passes by the limit
            self.broken.add(check)
            self.findings.append(Finding(check, sentence, index, file))

    def take(self, found: Iterable[Finding]) -> None:
        for finding in found:
            self.find(finding.check, finding.sentence, finding.index, finding.file)

    def file_problem(self, problem: BundleError) -> None:
        where = f"{problem.file}: " if problem.file else ""
        self.find(problem.check, where + problem.sentence, file=problem.file)

    # -- files

    def judge_manifest(self, files: Mapping[str, bytes]) -> None:
        """B1: the file set is the one an exporter whom the auditor knows has signed."""
        self.counts["B1"] = len(files)
        keys = later_keys(files, self.trust).events.values()
        try:
            note = files.get(of.MANIFEST)
            if note is None:
                raise BundleError("missing", file=of.MANIFEST)
            manifest, signer = of.open_manifest(note, list(keys))
        except BundleError as error:
            self.file_problem(error)
            return
        self.exporter = signer.name
        for problem in of.compare_files(manifest, files):
            self.file_problem(problem)
        if manifest.origin != self.trust.origin:
            self.find("B1", "the manifest is of another log", file=of.MANIFEST)
        self.promised = manifest.size

    def judge_charter(self, charter: bytes | None) -> None:
        """T1, G32, G33: the charter is the trusted one, with the trusted keys."""
        if charter is None:
            self.find("T1", "the charter is missing", file=of.CHARTER)
            return
        try:
            terms = CharterTerms.from_json(charter)
        except AuditError as error:
            self.find(error.check, f"{of.CHARTER}: {error.sentence}", file=of.CHARTER)
            self.find("T1", "the charter cannot be read", file=of.CHARTER)
            return
        self.counts["T1"], self.counts["G32"] = 1, terms.n
        for difference in self.trust.differences(terms):
            self.find(difference.check, difference.sentence, file=of.CHARTER)
        self.terms = terms

    def judge_checkpoint(self, note: bytes | None) -> None:
        """C2: the head is signed by the trusted log key."""
        self.counts["C2"] = 1
        if note is None:
            self.find("C2", "the checkpoint is missing", file=of.CHECKPOINT)
            return
        try:
            key = VerifierKey.parse(self.trust.log_vkey)
            self.head = open_checkpoint(note, key, origin=self.trust.origin)
        except AuditError as error:
            self.find("C2", error.sentence, file=of.CHECKPOINT)

    def judge_entries(self, files: Mapping[str, bytes]) -> None:
        """C1, C5: entries give the root, and the tiles are those of the entries."""
        size = self.head.size if self.head is not None else claimed_size(files)
        problem = self._read_entries(files, size)
        self.counts["C1"] = self.counts["C5"] = len(self.notes)
        if problem is not None:
            self.find(problem.check, problem.sentence, index=len(self.notes), file=problem.file)
            self.not_judged["H1"] = "Entries are missing, and not in the whole tiles that pruning deletes."
        if self.promised not in (None, size):
            self.find("B1", "the manifest promises another number of entries", file=of.MANIFEST)
        if self.head is None:
            self.not_judged["C5"] = "No checkpoint says how many entries there are."
        elif self.tree.size == size and self.tree.root() != self.head.root:
            self.find("C1", "the entries do not give the root of the checkpoint", file=of.CHECKPOINT)
        expected = hash_tiles(self.tree)
        present = {path for path in files if path.startswith("tile/") and "/entries/" not in path}
        for path in sorted(expected.keys() | present):
            if files.get(path) != expected.get(path):
                self.find("C1", f"{path}: not the hashes of the entries", file=path)
        if problem is None:  # a head may claim any size: list only tiles whose entries are there
            named = {path for path, _, _ in tile_names("entries", self.tree.size)}
            for path in sorted({path for path in files if path.startswith("tile/entries/")} - named):
                self.find("C5", f"{path}: entries beyond the checkpoint", file=path)

    def _read_entries(self, files: Mapping[str, bytes], size: int) -> BundleError | None:
        """Read all entries, or what is left where whole tiles were deleted; returns what else is wrong."""
        self.notes, problem = read_entries(files, size)
        self.tree, self.indexes = Tree.of_data(self.notes), range(len(self.notes))
        if problem is None or problem.check != "C5":
            return problem
        self.remains = read_remains(files, size)
        if self.remains is None:
            return problem
        self.tree, self.indexes = self.remains.tree, list(self.remains.notes)
        self.notes = list(self.remains.notes.values())
        return None

    # -- events

    def judge_events(self, workers: int, progress: Progress) -> None:
        """Judge form, signature and law of every event."""
        if self.terms is not None and self.remains is None:
            self.state = State.begin(self.terms)
        elif self.terms is None:
            self._law_stops("Without the charter the law could not be applied.")
        if self.notes and self.tree.leaf(0).hex() != self.trust.genesis:
            self.find("K1", "the first entry is not the trusted genesis", index=0)
        ahead = self.trust.key_book()  # events are opened in order, but ahead of those that are judged
        follow = partial(ahead.take, 0)
        events = open_events(self.notes, ahead.event_key_of, workers, learn=follow)
        for done, (index, note, opened) in enumerate(zip(self.indexes, self.notes, events, strict=True), 1):
            event = self._opened(index, note, opened)
            if event is None:
                self._law_stops(f"Not judged from event {index} on, which could not be read.")
            elif self.state is not None:
                self._lawful(Entry(index, self.tree.leaf(index), note, event))
            if done % PROGRESS_EVERY == 0 or done == len(self.notes):
                progress(done, len(self.notes))
        self.counts.update(dict.fromkeys(("E1", "E2", "G45", "P1"), len(self.notes)))
        self.counts.update(times_applied(self.lawful))
        if self.state is not None and self.state.pending is not None:
            pending = self.state.pending
            self.find("R4", f"the {pending.type} of {pending.site} has no receipt", index=self.state.size - 1)

    def judge_remains(self) -> None:
        """H1: what is missing was deleted lawfully."""
        if self.remains is None or self.terms is None:
            return
        judged = judge_remains(self.terms, self.remains, dict(self.read), self.now)
        self.take(judged.findings)
        self.counts["H1"], self.found_true["H1"] = judged.events, judged.sentence
        if self.now is None:
            self.not_judged["H1"] = NO_CLOCK

    def _opened(self, index: int, note: bytes, opened: Opened) -> Event | None:
        """E1, E2, G45, P1: what was found when an event was opened; None if its form is wrong."""
        if opened.problem is not None:
            self.find(*opened.problem, index)
        if opened.event is None:
            return None
        self.read.append((index, opened.event))
        self.book.take(index, opened.event)
        if isinstance(opened.event.data, KeyRotated):
            self.residue.learn(opened.event.data)
        try:
            self.residue.check(note)
        except EventError as error:
            self.find(error.check, error.sentence, index)
        return opened.event

    def _lawful(self, entry: Entry) -> None:
        state = self.state
        if state is None:
            return
        self.lawful[entry.event.type] += 1
        self.entries.append(entry)
        try:
            for error in findings(state, entry.event, entry.leaf):
                self.find(error.check, error.sentence, entry.index)
            fold(state, entry)
        except (KeyError, IndexError, AttributeError, ValueError, TypeError):
            # Only after a broken rule can an event fail to fold; what follows has no state to be judged by.
            self.find("R1", f"{entry.event.type} makes no sense here", entry.index)
            self._law_stops(f"Not judged after event {entry.index}, which leads to no state.")

    def _law_stops(self, sentence: str) -> None:
        if self.state is not None or self.terms is None:
            for check in LAW_CHECKS:
                self.not_judged.setdefault(check, sentence)
        self.state = None

    # -- witnesses

    def judge_witnesses(self, files: Mapping[str, bytes]) -> None:
        """C3, E8, U1: what the witnesses' cosignatures prove."""
        demanded = self.terms is not None and "C3" in self.terms.demands
        judged = judge_witnesses(
            files, self.trust, self.tree, self.book, entries=self.entries, state=self.state, demanded=demanded
        )
        self.witnesses = judged
        for check, sentence, index, file in judged.findings:
            self.find(check, sentence, index, file)
        self.counts["C3"], self.counts["E8"] = len(judged.quorums), judged.timed
        if not judged.quorums:
            return  # what the checks say where there is nothing to judge
        del self.not_judged["E8"]
        left = self.tree.size - judged.covered
        kept = tail_sentence(self.read, judged.covered) if left else None
        if not left or kept is not None:
            del self.not_judged["C3"]
            self.found_true |= {"C3": kept} if kept is not None else {}
        else:
            self.not_judged["C3"] = f"No quorum has cosigned the last {left} entries yet."

    def judge_stamps(self, files: Mapping[str, bytes]) -> None:
        """C7: when each closed round's head existed, by a clock that is nobody's in the study."""
        roots = self.trust.tsa_certificates
        judged = self.stamps = judge_stamps(files, self.tree, self.trust.origin, self.read, roots)
        self.take(judged.findings)
        self.counts["C7"], self.not_judged["C7"] = judged.count, judged.sentence
        if judged.whole:
            del self.not_judged["C7"]
            self.found_true["C7"] = judged.sentence

    def judge_heads(self, folder: Path | None) -> None:
        """C4, C6, J1: heads and journals fetched from the sites agree with the log."""
        self.counts["C4"] = 1 if self.head is not None else 0
        if folder is None:
            for check in HEAD_CHECKS:
                self.not_judged[check] = "No heads or journals of the sites were given."
            return
        judged = judge_heads(folder, self.trust, self.tree, [entry.event for entry in self.entries])
        self.fetched = judged.fetched
        for check, sentence, file in judged.findings:
            if check != "J1" or self.remains is None:
                self.find(check, sentence, file=file)
        self.counts["C4"] += judged.heads
        self.counts["C6"], self.counts["J1"] = judged.heads, judged.refusals
        if not judged.heads:
            self.not_judged["C6"] = "The folder holds no head of any member."
        if not judged.journals:
            self.not_judged["J1"] = "The folder holds no journal of any member."

    # -- sums

    def judge_sums(self, judge: SumJudge | None) -> None:
        """A3: the published sums are those of the uploads; without evidence that is not judged (R4.6.11)."""
        if judge is None or self.state is None:
            return
        judged = judge(self.state, self.entries)
        self.take(judged.findings)
        self.counts["A3"] = judged.sums
        self.not_judged["A3"] = judged.sentence
        demanded = self.terms is not None and "A3" in self.terms.demands
        if judged.sums and not (demanded and judged.unproven):
            del self.not_judged["A3"]
            self.found_true["A3"] = judged.sentence

    def judge_site_noise(self) -> None:
        """D6: what the opened rounds cost a site under noise inside the masks."""
        if self.terms is None or self.state is None:
            self.not_judged.setdefault("D6", "Not judged: the log leads to no state.")
            return
        judged = judge_site_noise(self.terms, self.state)
        self.take([judged.finding] if judged.finding else [])
        self.counts["D6"], self.found_true["D6"] = judged.rounds, judged.sentence

    # -- the verdict

    def verdict(self) -> Verdict:
        if self.remains is not None:  # what needs the deleted entries never passes
            self.not_judged |= dict.fromkeys(WHOLE_CHECKS, gone_of(self.remains))
        demands = self.terms.demands if self.terms is not None else frozenset[str]()
        self._judge_budget()
        results = {name: self._result(name, sentence) for name, sentence in CLAIMS.items()}
        for name in (finding.check for finding in self.findings):
            if name not in results:
                results[name] = self._result(name, name)
        unmade = any(results[name].result == "not judged" for name in demands if name in results)
        unmade |= self.remains is not None  # the law was not applied
        failed = bool(self.findings) or (self.state is None and self.remains is None)
        return Verdict(
            verdict="fail" if failed else "incomplete" if unmade else "pass",
            events=len(self.notes),
            checks=dict(sorted(results.items(), key=lambda item: (item[0][0], int(item[0][1:])))),
            findings=tuple(self.findings),
            origin=self.trust.origin,
            root=self.tree.root().hex(),
            exporter=self.exporter,
            state=self.state,
            entries=tuple(self.entries),
            terms=self.terms,
            witnesses=self.witnesses,
            fetched=self.fetched,
            stamps=self.stamps,
            read=tuple(self.read),
        )

    def _judge_budget(self) -> None:
        """D1 to D5 pass on nothing without a budget; one that ends before the charter's rounds is said."""
        if self.terms is None:
            return
        plan = self.terms.privacy
        if plan is None:  # no rule of theirs can be broken, so deleted entries leave nothing open
            for name in DP_CHECKS:
                self.counts[name], self.found_true[name] = 0, NO_BUDGET
                self.not_judged.pop(name, None)
        elif shortage := plan.shortage(self.terms.rounds):
            self.found_true["D3"] = shortage

    def _result(self, check: str, sentence: str) -> CheckResult:
        own = [finding for finding in self.findings if finding.check == check]
        if own:
            indexes = [finding.index for finding in own if finding.index is not None]
            return CheckResult("fail", self.counts[check], min(indexes, default=None), own[0].sentence)
        if check in self.not_judged:
            return CheckResult("not judged", self.counts[check], None, self.not_judged[check])
        return CheckResult("pass", self.counts[check], None, self.found_true.get(check, sentence))

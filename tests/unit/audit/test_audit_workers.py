"""Several processes give the verdict of one, byte for byte, on clean and on forged logs."""

from __future__ import annotations

import gc
import json
import sys
import threading
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from fedmedlora_audit import opening
from fedmedlora_audit.events import parse_event
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.opening import open_events
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog


@pytest.fixture(scope="module")
def clean() -> StudyLog:
    return StudyLog().play(2)


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short logs go to workers, too, and in many chunks."""
    monkeypatch.setattr(opening, "PARALLEL_FROM", 1)
    monkeypatch.setattr(opening, "CHUNK", 16)


def forged(log: StudyLog) -> Forger:
    """A log with a defect of every kind that opening an event finds."""
    made = Forger(log)
    other = made.notes[40].rsplit(b" ", 1)[1]
    made.notes[30] = made.notes[30].rsplit(b" ", 1)[0] + b" " + other  # another event's signature
    made.notes[50] = made.notes[50].replace(b'"seq":', b'"seq": ', 1)  # not canonical
    made.notes[60] = made.notes[60] + made.notes[61].rsplit(b"\n", 2)[1] + b"\n"  # two lines
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("forge", [Forger, forged], ids=["clean", "forged"])
def test_verdict_of_three_processes_is_that_of_one(
    forge: type[Forger], clean: StudyLog, tmp_path: Path
) -> None:
    made = forge(clean)
    folder = made.seal(tmp_path / "bundle")
    one, three = (json.dumps(verify_bundle(folder, made.trust, workers=count).to_json()) for count in (1, 3))
    assert one == three
    assert ('"verdict": "pass"' in one) == (forge is Forger)


def test_workers_are_forked_only_from_a_process_without_threads() -> None:
    """A forked child of a program with threads may wait for ever for a lock that nobody will open."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    assert opening._start_method() == "spawn"
    release.set()
    thread.join()
    if threading.active_count() == 1 and sys.platform == "linux":
        assert opening._start_method() == "fork"


@pytest.mark.parametrize("was_on", [True, False])
def test_garbage_collection_is_as_before_once_a_bundle_is_judged(was_on: bool) -> None:
    found = gc.isenabled()
    try:
        (gc.enable if was_on else gc.disable)()
        with pytest.raises(ZeroDivisionError), opening.uncollected():
            assert not gc.isenabled()
            raise ZeroDivisionError
        assert gc.isenabled() == was_on
    finally:
        (gc.enable if found else gc.disable)()


def test_short_log_is_opened_without_any_worker(clean: StudyLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "ProcessPoolExecutor", None)  # would not be callable
    notes = [entry.note for entry in clean.entries]
    assert all(opened.problem is None for opened in open_events(notes, clean.state.key_of, workers=8))


@pytest.mark.usefixtures("several")
def test_workers_that_die_leave_their_part_to_this_process(
    clean: StudyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead:
        def __init__(self, *_: object, **__: object) -> None:
            self.left = 2

        def submit(self, *_: object) -> Dead:
            self.left -= 1
            if self.left < 0:
                raise BrokenProcessPool
            return self

        def done(self) -> bool:
            return True

        def result(self) -> bytes:
            raise BrokenProcessPool

        def shutdown(self, **_: object) -> None:
            pass

    monkeypatch.setattr(opening, "ProcessPoolExecutor", Dead)
    made = forged(clean)
    found = list(open_events(made.notes, clean.state.key_of, workers=2))
    monkeypatch.undo()
    assert found == list(open_events(made.notes, clean.state.key_of))


def test_every_event_of_a_log_has_the_spelling_that_the_quick_way_expects(clean: StudyLog) -> None:
    """The quick comparison is the one that decides, and it agrees with RFC 8785."""
    for entry in clean.entries:
        event = parse_event(entry.note).event
        text = event.canonical_json()
        assert event.is_written(text)
        assert not event.is_written(text + b" ")
        assert not event.is_written(text.replace(b'"seq":', b'"seq":0', 1))


def test_stranger_has_no_key(clean: StudyLog) -> None:
    def nobody(_: object) -> VerifierKey | None:
        return None

    (opened,) = open_events([clean.entries[0].note], nobody)
    assert opened.problem == ("E2", "coordinator has no trusted key")


def test_progress_ends_at_the_number_of_events(clean: StudyLog, tmp_path: Path) -> None:
    made, seen = Forger(clean), []
    verify_bundle(made.seal(tmp_path / "b"), made.trust, progress=lambda *now: seen.append(now))
    assert seen[-1] == (len(clean.entries), len(clean.entries))
    assert seen == sorted(seen)

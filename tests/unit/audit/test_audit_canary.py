"""The search for canaries: it finds one mark wherever and however it hides, and never says the mark."""

from __future__ import annotations

import gzip
import json
import os
import random
import sqlite3
import tracemalloc
import zlib
from pathlib import Path

import pytest

from fedmedlora_audit.canary import Canaries, Canary, CanaryError, Report, needles, scan_folder, stream
from fedmedlora_testkit.hiding import HIDING

NAME, RECORD, BORN = "Tavudenikopuserafelo", "930157718204466135", "7412-03-19"
MARKS = {"name": NAME, "record": RECORD, "telephone": "4821 7391 5520 9983", "born": BORN}
CANARIES = Canaries(
    (Canary(id="site-a-1", marks=MARKS), Canary(id="site-b-1", marks={"name": "Wozagimerulopy"}))
)


def found_in(data: bytes, folder: Path, canaries: Canaries = CANARIES) -> Report:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_bytes(data)
    return scan_folder(folder, canaries)


def marks_of(report: Report) -> set[tuple[str, str]]:
    return {(item.canary, item.mark) for item in report.found}


@pytest.mark.parametrize("way", HIDING)
@pytest.mark.parametrize("kind", MARKS)
def test_a_mark_is_found_however_it_hides(way: str, kind: str, tmp_path: Path) -> None:
    report = found_in(HIDING[way](MARKS[kind]), tmp_path)
    if (way, kind) == ("groups", "born"):
        assert report.verdict == "clean", "eight digits without dashes occur by chance and are not looked for"
        return
    assert marks_of(report) == {("site-a-1", kind)}
    assert report.verdict == "found"
    shown = json.dumps(report.to_json())
    assert not any(mark.lower() in shown.lower() for mark in MARKS.values())


@pytest.mark.parametrize("way", HIDING)
def test_a_text_without_marks_is_clean_however_it_hides(way: str, tmp_path: Path) -> None:
    assert found_in(HIDING[way]("Severe chest pain, aspirin 81 mg"), tmp_path).verdict == "clean"


SPELLED = {
    "plain": "plain",
    "hex": "hex",
    "base64, begins at 1": "base64",
    "reversed": "reversed",
    "UTF-16 LE": "utf-16-le",
    "UTF-16 BE": "utf-16-be",
    "groups": "plain without separators",
}


@pytest.mark.parametrize(("way", "spelling"), SPELLED.items())
def test_without_its_spelling_the_search_would_miss_a_mark(
    way: str, spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = needles.spellings
    monkeypatch.setattr(
        needles, "spellings", lambda text: (s for s in every(text) if s[1].split(" of ")[0] != spelling)
    )
    hidden = HIDING[way](NAME)
    left = {"plain": {"plain without separators"}}.get(way, set())
    assert {item.spelling for item in found_in(hidden, tmp_path).found} == left


def test_without_openings_the_search_would_miss_what_is_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_OPENINGS", ())
    for way in ("gzip", "zlib", "gzip of a hex line", "zip member"):
        assert found_in(HIDING[way](NAME), tmp_path).verdict == "clean"


def test_a_mark_across_the_border_of_two_pieces_is_found(tmp_path: Path) -> None:
    for before in (stream.PIECE - 5, stream.PIECE - len(NAME), 2 * stream.PIECE - 1):
        report = found_in(os.urandom(before) + NAME.encode() + os.urandom(9999), tmp_path)
        assert marks_of(report) == {("site-a-1", "name")}


def test_a_compressed_stream_across_the_border_of_two_pieces_is_found(tmp_path: Path) -> None:
    packed = gzip.compress(os.urandom(50) + NAME.encode())
    for before in range(stream.PIECE - len(packed) - 2, stream.PIECE + 2, 7):
        report = found_in(b"\x00" * before + packed, tmp_path)
        assert {item.place for item in report.found} >= {"gzip"}, before


def test_fed_byte_by_byte_the_search_finds_the_same() -> None:
    search = needles.Needles(CANARIES)
    data = (
        b"aa"
        + gzip.compress(b"bb" + NAME.encode())
        + b"cc"
        + RECORD[::-1].encode()
        + HIDING["zip member"](BORN)
    )
    whole, slow = stream.Stream(search), stream.Stream(search)
    whole.feed(data)
    for place in range(len(data)):
        slow.feed(data[place : place + 1])
    whole.close()
    slow.close()
    assert slow.hits == whole.hits
    assert {hit.hit.mark for hit in whole.hits} == {"name", "record", "born"}


def test_random_bytes_and_digests_are_clean(tmp_path: Path) -> None:
    drawn = random.Random(5)  # noqa: S311 - bytes to search
    (tmp_path / "digests").write_text("\n".join(drawn.randbytes(32).hex() for _ in range(20_000)))
    report = found_in(drawn.randbytes(4_000_000), tmp_path)
    assert (report.verdict, report.files, report.not_searched) == ("clean", 2, [])


def test_a_number_in_a_column_of_integers_is_found(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "store.sqlite")
    database.execute('CREATE TABLE "odd ""name" (record INTEGER)')
    database.execute('INSERT INTO "odd ""name" VALUES (?)', (int(RECORD),))
    database.commit()
    database.close()
    assert RECORD.encode() not in (tmp_path / "store.sqlite").read_bytes()
    (item,) = scan_folder(tmp_path, CANARIES).found
    assert (item.place, item.mark) == ('table odd "name', "record")


def test_names_of_files_folders_and_links_are_searched_and_withheld(tmp_path: Path) -> None:
    for folder in ("one", f"of-{NAME.lower()}"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("nothing")
    (tmp_path / "one" / f"{RECORD}.txt").write_text("nothing")
    (tmp_path / "two").symlink_to(f"/srv/{BORN}")
    report = scan_folder(tmp_path, CANARIES)
    assert {(item.file, item.place, item.mark) for item in report.found} == {
        ("[withheld]", "name", "name"),
        ("one/[withheld]", "name", "record"),
        ("two", "link", "born"),
    }


def test_what_is_skipped_is_not_searched_and_the_rest_is(tmp_path: Path) -> None:
    for folder in ("site-a", "coordinator"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes").write_text(NAME)
    report = scan_folder(tmp_path, CANARIES, skip=[tmp_path / "site-a"])
    assert [item.file for item in report.found] == ["coordinator/notes"]


def test_what_cannot_be_read_makes_the_search_incomplete(tmp_path: Path) -> None:
    (tmp_path / "broken.sqlite").write_bytes(b"SQLite format 3\x00" + bytes(5000))
    report = scan_folder(tmp_path, CANARIES)
    assert (report.verdict, report.found) == ("incomplete", [])
    assert [item.file for item in report.not_searched] == ["broken.sqlite"]


def test_a_stream_that_never_ends_is_cut_off_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_INFLATED", 1 << 20)
    report = found_in(zlib.compress(bytes(5 << 20) + NAME.encode()), tmp_path)
    assert report.verdict == "incomplete"
    assert "too long" in report.not_searched[0].reason


def test_memory_does_not_grow_with_what_is_searched(tmp_path: Path) -> None:
    """24 MiB in one compressed stream of 24 KiB, and a mark at its end."""
    packed = zlib.compress(bytes(24 << 20) + NAME.encode())
    tracemalloc.start()
    try:
        report = found_in(packed, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert marks_of(report) == {("site-a-1", "name")}
    assert peak < 16 << 20


def test_an_empty_search_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(CanaryError, match="search"):
            scan_folder(folder, CANARIES)


@pytest.mark.parametrize(
    "marks",
    [
        {"name": "Smith"},
        {"record": "123456789"},
        {"name": NAME, "record": NAME.upper()},
        {"born": "1 - 2 - 3 - 4"},
        {NAME.lower(): NAME},
    ],
)
def test_marks_that_a_search_could_not_rely_on_are_refused(marks: dict[str, str]) -> None:
    with pytest.raises(CanaryError) as refused:
        Canaries((Canary(id="a", marks=marks),))
    assert NAME.lower() not in str(refused.value).lower()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"schema":"fedmedlora-canaries/1","canaries":[]}',
        '{"schema":"fedmedlora-canaries/2","canaries":[{"id":"a","marks":{"name":"Tavudenikopuserafelo"}}]}',
        '{"schema":"fedmedlora-canaries/1","canaries":[{"id":"Tavudenikopuserafelo","marks":{"name":"x"}}]}',
        '{"schema":"fedmedlora-canaries/1","canaries":[{"id":"a","marks":{"Tavudenikopuserafelo":7}}]}',
        '{"schema":"fedmedlora-canaries/1","canaries":[{"id":"a","Tavudenikopuserafelo":{}}]}',
    ],
)
def test_a_file_that_holds_no_marks_is_refused_without_its_text(content: str, tmp_path: Path) -> None:
    path = tmp_path / "canaries.json"
    path.write_text(content)
    with pytest.raises(CanaryError) as refused:
        Canaries.load([path])
    assert NAME not in str(refused.value)


def test_marks_in_other_letters_are_found(tmp_path: Path) -> None:
    name = "Müllér-Ößwaldstraße"
    canaries = Canaries((Canary(id="a", marks={"name": name}),))
    forms = [name.encode(), name.upper().encode(), name.lower().encode("latin-1"), json.dumps(name).encode()]
    forms += [
        name.encode("utf-16-be"),
        name.encode().hex().encode(),
        b"M%C3%BCll%C3%A9r-%C3%96%C3%9Fwaldstra%C3%9Fe",
    ]
    for form in forms:
        assert found_in(form, tmp_path, canaries).verdict == "found", form


def test_no_repr_shows_a_mark() -> None:
    assert NAME not in repr(CANARIES)

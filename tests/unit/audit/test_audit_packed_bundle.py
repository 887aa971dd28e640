"""The packed bundle: what is packed comes back, the same verdict comes out, and a hostile file is refused."""

from __future__ import annotations

import json
import re
import resource
import shutil
import string
import subprocess
import sys
import tarfile
import zlib
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_audit import packed_bundle
from fedmedlora_audit.browsing import Browser
from fedmedlora_audit.bundle import read_files, write_bundle
from fedmedlora_audit.errors import BundleError
from fedmedlora_audit.packed_bundle import FRAME, LAYOUT, pack, unpack
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog
from fedmedlora_testkit.audit_zoo import ZOO, Scene
from fedmedlora_testkit.audit_zoo.witnessed import witnessed_scene
from fedmedlora_testkit.packed_attacks import ATTACKS, archive, framed, honest

MADE = Forger(StudyLog().play(1))
TAR = shutil.which("tar") or ""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MADE.seal(tmp_path_factory.mktemp("packed") / "bundle.tar.gz")


@pytest.fixture(scope="module")
def files(packed: Path) -> dict[str, bytes]:
    return read_files(packed)[0]


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as refused:
        unpack(path)
    assert (refused.value.file, refused.value.check) == (path.name, "B1")
    assert str(refused.value) == f"B1: {path.name}: {refused.value.sentence}"
    assert "\n" not in str(refused.value)
    assert str(refused.value).isprintable()
    return refused.value.sentence


# -- what is packed


def test_a_packed_bundle_has_the_files_of_the_folder_and_its_verdict(tmp_path: Path, packed: Path) -> None:
    folder = MADE.seal(tmp_path / "bundle")
    assert read_files(packed) == read_files(folder)
    one, other = (verify_bundle(path, MADE.trust) for path in (folder, packed))
    assert one.verdict == "pass"
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())


def test_every_falsified_bundle_is_judged_alike_packed_or_not(tmp_path: Path) -> None:
    """A folder that cannot be packed - links, files of no bundle - fails by the same check."""
    packed_alike = 0
    for name, kind in sorted(ZOO.items()):
        scene = kind.make(tmp_path / name)
        target = tmp_path / f"{name}.tar.gz"
        files, problems = read_files(scene.bundle)
        target.write_bytes(framed(archive(honest(files))))
        folder, again = scene.judge(), Scene(target, scene.trust, scene.heads).judge()
        if problems or not all(map(LAYOUT.fullmatch, files)):
            assert folder.verdict == again.verdict == "fail", name
            assert folder.checks["B1"].result == again.checks["B1"].result == "fail", name
        else:
            assert json.dumps(folder.to_json()) == json.dumps(again.to_json()), name
            packed_alike += 1
    assert packed_alike >= len(ZOO) - 3


def test_heads_of_witnesses_are_packed(tmp_path: Path) -> None:
    scene = witnessed_scene(tmp_path)
    files = read_files(scene.bundle)[0]
    assert any(path.startswith("heads/") for path in files)
    target = tmp_path / "bundle.tar.gz"
    target.write_bytes(pack(files))
    assert json.dumps(verify_bundle(target, scene.trust).to_json()) == json.dumps(scene.judge().to_json())


def test_the_same_log_gives_the_same_bytes(tmp_path: Path, packed: Path, files: dict[str, bytes]) -> None:
    again = MADE.seal(tmp_path / "other-name.tar.gz")
    assert again.read_bytes() == packed.read_bytes() == pack(dict(reversed(files.items())))
    assert oct(again.stat().st_mode)[-3:] == "644"


@pytest.mark.skipif(not TAR, reason="no tar here")
def test_other_tools_read_it(packed: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    with tarfile.open(packed) as opened:
        found = {info.name: opened.extractfile(info) for info in opened}
        assert {name: file.read() for name, file in found.items() if file is not None} == files
    done = subprocess.run(
        [TAR, "-xzf", str(packed), "-C", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert (done.stderr, read_files(tmp_path)) == ("", (files, []))


paths = st.from_regex(LAYOUT, fullmatch=True)


@given(st.dictionaries(paths, st.binary(max_size=1600), max_size=8))
def test_whatever_a_bundle_holds_comes_back(
    tmp_path_factory: pytest.TempPathFactory, held: dict[str, bytes]
) -> None:
    path = tmp_path_factory.mktemp("any") / "any.tar.gz"
    path.write_bytes(pack(held))
    assert unpack(path) == held
    with tarfile.open(path) as opened:
        assert opened.getnames() == sorted(held)


@given(st.text(alphabet=string.ascii_lowercase + "/.x0123", max_size=24))
def test_a_path_that_is_packed_leads_nowhere_else(name: str) -> None:
    """No name of the layout begins at a root, climbs, or has an empty part."""
    if LAYOUT.fullmatch(name):
        assert not {"", ".", ".."} & set(name.split("/"))


# -- what is not packed


def test_only_what_can_be_read_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match="README: has no place in a packed bundle"):
        MADE.seal(tmp_path / "b.tar.gz", extra={"README": b"x"})
    monkeypatch.setattr(packed_bundle, "MAX_FILE_BYTES", 3)
    with pytest.raises(BundleError, match="checkpoint: larger than 3 bytes"):
        pack({"checkpoint": b"four"})
    monkeypatch.setattr(packed_bundle, "MAX_MEMBERS", 1)
    with pytest.raises(BundleError, match="more than 1 files"):
        pack({"checkpoint": b"", "manifest": b""})
    monkeypatch.setattr(packed_bundle, "MAX_BYTES", 1500)
    with pytest.raises(BundleError, match="more than 1500 bytes"):
        pack({"checkpoint": b""})
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_use_is_not_written_over_and_nothing_is_left(tmp_path: Path) -> None:
    target = tmp_path / "b.tar.gz"
    target.write_bytes(b"mine")
    given: dict[str, Any] = {"charter": MADE.log.charter, "entries": MADE.notes, "signer": MADE.signer}
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(target, checkpoint=MADE.checkpoint(), **given)
    assert target.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar.gz"]


# -- hostile files


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_a_hostile_file_is_refused_in_one_line(name: str, tmp_path: Path, files: dict[str, bytes]) -> None:
    path = tmp_path / "hostile.tar.gz"
    path.write_bytes(ATTACKS[name].make(files))
    assert ATTACKS[name].said in refusal(path)


def test_the_reader_takes_what_the_attacks_start_from(tmp_path: Path, files: dict[str, bytes]) -> None:
    """Else every attack were refused for a reason that is not its own."""
    path = tmp_path / "honest.tar.gz"
    path.write_bytes(framed(archive(honest(files))))
    assert unpack(path) == files
    assert zlib.decompress(path.read_bytes(), wbits=31) == zlib.decompress(pack(files), wbits=31)


@pytest.mark.parametrize(
    ("attack", "guard", "gone"),
    [
        ("a_path_upwards", "LAYOUT", re.compile(".*")),
        ("a_file_of_no_bundle", "LAYOUT", re.compile(".*")),
        ("too_many_files", "MAX_MEMBERS", 1 << 40),
        ("a_file_that_is_too_large", "MAX_FILE_BYTES", 1 << 40),
        ("a_bomb_in_pieces", "MAX_BYTES", 1 << 40),
        ("another_owner", "_header", None),
    ],
)
def test_a_hostile_file_is_read_without_its_guard(
    attack: str,
    guard: str,
    gone: Any,
    tmp_path: Path,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "hostile.tar.gz"
    path.write_bytes(ATTACKS[attack].make(files))
    refusal(path)
    monkeypatch.setattr(packed_bundle, guard, gone or _AnyHeader())
    assert unpack(path)


class _AnyHeader:
    """Stands for `_header`: equal to whatever header is there."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, path: str, size: int) -> _AnyHeader:
        return self

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def test_one_flipped_bit_anywhere_is_refused_with_the_file_named(tmp_path: Path) -> None:
    """Every bit of a small file; among them bits that no unpacker looks at."""
    path = tmp_path / "small.tar.gz"
    whole = pack({"checkpoint": b"head", "manifest": sha512(b"").digest()})
    for place in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            refusal(path)


def test_one_flipped_byte_of_a_whole_bundle_is_refused(tmp_path: Path, packed: Path) -> None:
    path = tmp_path / "bent.tar.gz"
    whole = packed.read_bytes()
    for place in [
        *range(64),
        *range(64, len(whole), len(whole) // 200),
        *range(len(whole) - 12, len(whole)),
    ]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        refusal(path)


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.tar.gz"
    whole = pack({"checkpoint": b"head", "manifest": sha512(b"").digest()})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert "cut off" in refusal(path)


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_no_bytes_behind_the_frame_bring_the_reader_down(
    tmp_path_factory: pytest.TempPathFactory, plain: bytes, raw: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "any.tar.gz"
    for content in (framed(plain), FRAME + raw, raw):
        path.write_bytes(content)
        refusal(path)


MEASURE = """
import resource, sys
from pathlib import Path
from fedmedlora_audit.errors import BundleError
from fedmedlora_audit.packed_bundle import unpack
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    unpack(Path(sys.argv[1]))
except BundleError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error.sentence)
"""


@pytest.mark.skipif(not hasattr(resource, "getrusage"), reason="no count of memory here")
@pytest.mark.parametrize(
    "name", ["a_bomb_in_pieces", "a_bomb_behind_the_end", "a_file_that_says_it_is_too_large"]
)
def test_a_bomb_never_takes_more_memory_than_the_bound(
    name: str, tmp_path: Path, files: dict[str, bytes]
) -> None:
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(ATTACKS[name].make(files))
    assert path.stat().st_size < 3 << 20
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    grown, said = done.stdout.split(" ", 1)
    assert ATTACKS[name].said in said
    assert int(grown) * 1024 < (300_000_000 if name == "a_bomb_in_pieces" else 16 << 20)


def test_a_packed_bundle_that_is_refused_passes_no_check(tmp_path: Path, packed: Path) -> None:
    path = tmp_path / "bent.tar.gz"
    path.write_bytes(packed.read_bytes()[:-1])
    verdict: Verdict = verify_bundle(path, MADE.trust)
    assert (verdict.verdict, [finding.sentence for finding in verdict.findings]) == (
        "fail",
        ["bent.tar.gz: is cut off"],
    )
    passed = {name for name, result in verdict.checks.items() if result.result == "pass"}
    assert passed == {name for name in passed if name.startswith("D")}, "the study has no privacy budget"
    with pytest.raises(BundleError, match=r"bent\.tar\.gz: is cut off"):
        Browser.open(path, MADE.trust)

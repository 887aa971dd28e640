"""Downloads in parts: what a kill, a torn chunk and a damaged disk leave."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_audit.blob import BlobTree, blob_leaves
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_site.downloads import MOST_PARTS, DownloadFolder

DATA = bytes(range(256)) * 8192 + b"tail"  # three chunks
DIGEST = BlobTree(blob_leaves(DATA), len(DATA)).digest
CHUNKS = [DATA[at : at + CHUNK_BYTES] for at in range(0, len(DATA), CHUNK_BYTES)]


def test_a_torn_chunk_is_fetched_again_and_the_rest_is_kept(tmp_path: Path) -> None:
    # R3.2.6
    folder = DownloadFolder(tmp_path)
    first = folder.open(DIGEST, len(DATA))
    first.append(CHUNKS[0])
    first.append(CHUNKS[1][:1000])
    again = folder.open(DIGEST, len(DATA))
    assert (again.held, again.count) == (1, 3)
    again.append(CHUNKS[1])
    again.append(CHUNKS[2])
    assert bytes(folder.open(DIGEST, len(DATA)).take() or b"") == DATA
    assert not list(tmp_path.iterdir())


def test_what_a_disk_damaged_is_not_believed(tmp_path: Path) -> None:
    folder = DownloadFolder(tmp_path)
    download = folder.open(DIGEST, len(DATA))
    for chunk in CHUNKS:
        download.append(chunk)
    part = next(tmp_path.iterdir())
    part.write_bytes(part.read_bytes().replace(b"tail", b"tall"))
    assert folder.open(DIGEST, len(DATA)).take() is None
    assert folder.open(DIGEST, len(DATA)).held == 0


def test_there_are_never_more_than_a_few_parts(tmp_path: Path) -> None:
    folder = DownloadFolder(tmp_path)
    for number in range(MOST_PARTS + 3):
        folder.open(f"{number:064x}", len(DATA)).append(CHUNKS[0])
    assert len(list(tmp_path.iterdir())) == MOST_PARTS

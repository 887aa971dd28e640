"""The log as static files: C2SP tlog-tiles (AUDIT "Tiles").

``tile/<L>/<N>`` holds 256 hashes: number N of those that cover 256^L leaves each; ``tile/entries/<N>``
holds 256 entries, each after its length in 2 bytes. A last, incomplete tile has ``.p/<W>`` behind its name.
Any tool that reads transparency logs reads these.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fedmedlora_audit.errors import BundleError
from fedmedlora_audit.merkle import HASH_BYTES, Tree, leaf_hash

TILE_WIDTH: Final = 256
TILE_HEIGHT: Final = 8  # levels of the tree in one tile


def tile_number(number: int) -> str:
    """Write a tile's number: groups of three digits, all but the last with an x, such as x001/x234/067."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.append(f"x{number % 1000:03d}")
    return "/".join(reversed(groups))


def tile_names(kind: str, count: int) -> Iterator[tuple[str, int, int]]:
    """Name the tiles that hold ``count`` items: path, first item, end item."""
    for start in range(0, count, TILE_WIDTH):
        end = min(start + TILE_WIDTH, count)
        partial = "" if end - start == TILE_WIDTH else f".p/{end - start}"
        yield f"tile/{kind}/{tile_number(start // TILE_WIDTH)}{partial}", start, end


def hash_tiles(tree: Tree) -> dict[str, bytes]:
    """Return every hash tile of a tree by path."""
    tiles: dict[str, bytes] = {}
    level = 0
    while hashes := tree.complete(level * TILE_HEIGHT):
        for path, start, end in tile_names(str(level), len(hashes)):
            tiles[path] = b"".join(hashes[start:end])
        level += 1
    return tiles


def entry_tiles(notes: Sequence[bytes | None]) -> dict[str, bytes]:
    """Return every entry tile by path; a tile whose notes are all deleted (None) is left out.

    Raises:
        BundleError: Only some notes of a tile are deleted (the caller's mistake).
    """
    tiles: dict[str, bytes] = {}
    for path, start, end in tile_names("entries", len(notes)):
        kept = [note for note in notes[start:end] if note is not None]
        if kept and len(kept) != end - start:
            raise BundleError(f"entries {start} to {end - 1} are deleted in part", check="H1", file=path)
        if kept:
            tiles[path] = b"".join(len(note).to_bytes(2, "big") + note for note in kept)
    return tiles


def claimed_size(files: Mapping[str, bytes]) -> int:
    """Count the leaf hashes of the lowest tiles: how long the log is when no checkpoint says so."""
    return sum(len(content) // HASH_BYTES for path, content in files.items() if path.startswith("tile/0/"))


def read_entries(files: Mapping[str, bytes], size: int) -> tuple[list[bytes], BundleError | None]:
    """Read the notes of a log of ``size`` entries back from its entry tiles.

    Returns:
        The notes up to the first place that cannot be read, and what is wrong there (None when nothing is).
    """
    notes: list[bytes] = []
    for path, start, end in tile_names("entries", size):
        tile = files.get(path)
        if tile is None:
            return notes, BundleError(f"entries {start} to {end - 1} are missing", check="C5", file=path)
        found, problem = _read_tile(tile, path, start, end)
        notes += found
        if problem is not None:
            return notes, problem
    return notes, None


def _read_tile(tile: bytes, path: str, start: int, end: int) -> tuple[list[bytes], BundleError | None]:
    notes: list[bytes] = []
    offset = 0
    for index in range(start, end):
        length = int.from_bytes(tile[offset : offset + 2], "big")
        note = tile[offset + 2 : offset + 2 + length]
        if len(note) != length or length == 0:
            return notes, BundleError(f"entry {index} is cut off", check="C1", file=path)
        notes.append(note)
        offset += 2 + length
    if offset != len(tile):
        return notes, BundleError(f"bytes follow entry {end - 1}", check="C1", file=path)
    return notes, None


@dataclass(slots=True)
class Remains:
    """What is left of a log from which whole tiles of entries were deleted.

    Attributes:
        notes: The entries that are left, by index.
        missing: Ranges of deleted entries, in order, joined where they touch.
        tree: The tree over all entries, deleted ones by their hashes in ``tile/0``.
    """

    notes: dict[int, bytes] = field(default_factory=dict)
    missing: list[tuple[int, int]] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)


def read_remains(files: Mapping[str, bytes], size: int) -> Remains | None:
    """Read a log of ``size`` entries from which whole tiles were deleted.

    Returns:
        What is left; None if anything but whole entry tiles is missing, or nothing is.
    """
    remains = Remains()
    for path, start, end in tile_names("entries", size):
        tile = files.get(path)
        if tile is not None:
            notes, problem = _read_tile(tile, path, start, end)
            if problem is not None:
                return None
            for index, note in enumerate(notes, start):
                remains.notes[index] = note
                remains.tree.append(leaf_hash(note))
            continue
        hashes = files.get(path.replace("/entries/", "/0/", 1), b"")
        if end - start != TILE_WIDTH or len(hashes) != TILE_WIDTH * HASH_BYTES:
            return None
        for offset in range(0, len(hashes), HASH_BYTES):
            remains.tree.append(hashes[offset : offset + HASH_BYTES])
        joins = bool(remains.missing) and remains.missing[-1][1] == start
        remains.missing.append((remains.missing.pop()[0] if joins else start, end))
    return remains if remains.missing else None

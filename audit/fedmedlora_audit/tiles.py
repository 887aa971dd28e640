"""The log as static files: C2SP tlog-tiles (AUDIT "Tiles").

``tile/<L>/<N>`` holds 256 hashes: number N of those that cover 256^L leaves each; ``tile/entries/<N>``
holds 256 entries, each after its length in 2 bytes. A last, incomplete tile has ``.p/<W>`` behind its name.
Any tool that reads transparency logs reads these.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from fedmedlora_audit.errors import BundleError
from fedmedlora_audit.merkle import Tree

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


def entry_tiles(notes: Sequence[bytes]) -> dict[str, bytes]:
    """Return every entry tile by path."""
    return {
        path: b"".join(len(note).to_bytes(2, "big") + note for note in notes[start:end])
        for path, start, end in tile_names("entries", len(notes))
    }


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

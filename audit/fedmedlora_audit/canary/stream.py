"""The search of a stream of bytes, and of the compressed streams that begin anywhere inside it.

Memory is bounded whatever the length: a window of what was fed with a little of what came before, and as
much for each compressed stream that is open. gzip, zlib and the deflated members of zip files are opened
where their headers stand; what they give is searched the same way, to a depth of `MAX_DEPTH`.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from fedmedlora_audit.canary.needles import Hit, Needles

PIECE: Final = 1 << 20
"""Bytes that are read or inflated at a time."""
MAX_INFLATED: Final = 1 << 32
"""Bytes after which a compressed stream is not followed further, and the report says so."""
MAX_DEPTH: Final = 4
HEADER: Final = 30
"""Bytes of a zip member's fixed header, the longest of those looked for."""

_ZIP: Final = b"PK\x03\x04"
_OPENINGS: Final = (
    (b"\x1f\x8b\x08", "gzip", 31),
    (b"\x78\x01", "zlib", 15),
    (b"\x78\x5e", "zlib", 15),
    (b"\x78\x9c", "zlib", 15),
    (b"\x78\xda", "zlib", 15),
    (_ZIP, "zip", -15),
)
_DEFLATED: Final = 8


class Place(NamedTuple):
    """Where in a file a mark stands ("" for its own bytes), and which."""

    place: str
    hit: Hit


class Stream:
    """Searches what it is fed; hits are complete once it is closed.

    Args:
        needles: What to look for.
        place: Name of this stream inside its file.
        depth: How many compressed streams it lies in.
    """

    def __init__(self, needles: Needles, place: str = "", depth: int = 0) -> None:
        """Begin with nothing."""
        self._needles = needles
        self.place = place
        self._depth = depth
        self._kept = b""
        self._looked = 0  # bytes of what is kept in which no opening begins that was not seen
        self._open: list[_Inflater] = []
        self.hits: set[Place] = set()
        self.cut_off: set[str] = set()

    def feed(self, data: bytes) -> None:
        """Search the next bytes."""
        for start in range(0, len(data), PIECE):
            self._feed(data[start : start + PIECE])

    def _feed(self, data: bytes) -> None:
        for inflater in self._open:
            inflater.feed(data)
        window = self._kept + data
        self.hits |= {Place(self.place, hit) for hit in self._needles.search(window)}
        until = max(len(window) - HEADER + 1, self._looked)
        self._open_streams(window, self._looked, until)
        keep = min(len(window), max(4 * self._needles.longest, HEADER))
        self._kept = window[len(window) - keep :]
        self._looked = max(until - (len(window) - keep), 0)
        self._collect()

    def close(self) -> None:
        """Search what was held back for the next bytes."""
        self._open_streams(self._kept, self._looked, len(self._kept))
        for inflater in self._open:
            inflater.close()
        self._collect(every=True)

    def _collect(self, *, every: bool = False) -> None:
        """Take over what ended streams have found."""
        for inflater in [i for i in self._open if every or i.done]:
            self.hits |= inflater.hits
            self.cut_off |= inflater.cut_off
            self._open.remove(inflater)

    def _open_streams(self, window: bytes, first: int, until: int) -> None:
        """Open the compressed streams whose headers begin in `window[first:until]`."""
        if self._depth >= MAX_DEPTH:
            return
        for magic, name, bits in _OPENINGS:
            for place in _places(window, magic, first, until):
                begin = place if name != "zip" else _data_of_member(window, place)
                if begin is not None:
                    inside = f"{self.place}, {name}" if self.place else name
                    inflater = _Inflater(bits, begin - place, Stream(self._needles, inside, self._depth + 1))
                    inflater.feed(memoryview(window)[place:])
                    self._open.append(inflater)


def _places(window: bytes, magic: bytes, first: int, until: int) -> Iterator[int]:
    place = window.find(magic, first, until + len(magic) - 1)
    while place >= 0:
        yield place
        place = window.find(magic, place + 1, until + len(magic) - 1)


def _data_of_member(window: bytes, place: int) -> int | None:
    """Where the deflated data of a zip member begins; None if it is stored, encrypted or no member."""
    header = window[place : place + HEADER]
    if len(header) < HEADER:
        return None
    flags, method = struct.unpack_from("<HH", header, 6)
    name, extra = struct.unpack_from("<HH", header, 26)
    return place + HEADER + int(name) + int(extra) if method == _DEFLATED and not flags & 1 else None


class _Inflater:
    """One compressed stream: skips its header, inflates in pieces, ends at the first byte that is wrong."""

    def __init__(self, bits: int, skip: int, inside: Stream) -> None:
        self._inflate = zlib.decompressobj(wbits=bits)
        self._skip = skip
        self._inside = inside
        self._given = 0
        self.done = False

    @property
    def hits(self) -> set[Place]:
        return self._inside.hits

    @property
    def cut_off(self) -> set[str]:
        return self._inside.cut_off

    def feed(self, data: bytes | memoryview) -> None:
        if self.done:
            return
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        data = data[skipped:]
        while not self.done:
            try:
                given = self._inflate.decompress(data, PIECE)
            except zlib.error:
                self.close()
                return
            self._inside.feed(given)
            self._given += len(given)
            data = self._inflate.unconsumed_tail
            if self._given > MAX_INFLATED:
                self._inside.cut_off.add(self._inside.place)
                self.close()
            elif self._inflate.eof:
                self.close()
            elif not data and len(given) < PIECE:
                return

    def close(self) -> None:
        if not self.done:
            self.done = True
            self._inside.close()

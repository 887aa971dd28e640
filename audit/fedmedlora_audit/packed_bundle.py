"""The packed bundle: a bundle's files in one file, ``NAME.tar.gz`` (AUDIT "Packed bundle").

A tar archive in gzip that every unpacker reads, and that this reader takes in one spelling only: the header
of a member follows from its path and size, the frame of the file from its bytes. Whoever hands in the file is
not trusted, so nothing in it decides what is read: not a name, a kind of member, a size or a length.

Rules:
    * Only files of the bundle's known layout, in the order of their paths, each once, all ordinary.
    * Bounded: bytes of the file, members, bytes of a member, bytes of all once unpacked. What goes beyond a
      bound is refused when the bound is reached, not when it was read.
    * The gzip header holds the SHA-256 of all that follows it, so that no byte can change unseen. That finds
      damage; whether the files are the exporter's, the signed manifest says, as of a folder.

What this does not do: write to a disk, or judge the files (`verify`).

    unpack(Path("bundle.tar.gz"))["manifest"]
"""

import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from fedmedlora_audit.errors import BundleError

PACKED: Final = ".tar.gz"
"""How the name of a packed bundle ends."""
MAX_FILE_BYTES: Final = 64 << 20
"""Largest file of a bundle that an auditor reads into memory; the largest entry tile has 16 MiB."""
MAX_MEMBERS: Final = 32_768
MAX_BYTES: Final = 192 << 20
"""Most bytes of a packed bundle, packed and unpacked: some 230,000 events, 1,300 rounds of ten sites. A
hostile one costs less than 300 MB: these bytes, and once more those of the file in the making."""

LAYOUT: Final = re.compile(
    r"charter\.json|checkpoint|manifest"
    r"|heads/[1-9][0-9]{0,15}|stamps/[1-9][0-9]{0,15}\.tsr"
    r"|tile/(?:entries|[0-9]|[1-5][0-9]|6[0-3])/(?:x[0-9]{3}/){0,5}[0-9]{3}(?:\.p/[1-9][0-9]{0,2})?"
)
"""Every path that a bundle of `coordinator export` or `site export` can have."""

BLOCK: Final = 512
END: Final = bytes(BLOCK)  # twice
DATED: Final = 315_532_800  # 1980-01-01: the same for every log, and no date that tar warns of
LEVEL: Final = 9
PIECE: Final = 1 << 16
FRAME: Final = bytes.fromhex("1f8b08 04 00000000 02 ff 2400") + b"fb" + bytes.fromhex("2000")
"""Start of a gzip file without name or time, with one extra field ``fb`` of 32 bytes: the digest."""
TRAILER_BYTES: Final = 8
OTHER: Final = "is not packed as `export` packs; unpack it with tar and judge the folder"


def pack(files: Mapping[str, bytes]) -> bytes:
    """Pack a bundle; the same files give the same bytes.

    The bytes also depend on the zlib that this Python is built with; what is in them never does.

    Args:
        files: Every file of the bundle, path -> bytes.

    Raises:
        BundleError: A file has no place in a packed bundle, or there is too much: `unpack` would refuse it.
    """
    if len(files) > MAX_MEMBERS:
        raise BundleError(f"more than {MAX_MEMBERS} files: export a folder")
    body, crc, size = [], 0, 0
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    for piece in _tar(files):
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        body.append(deflate.compress(piece))
    body += [deflate.flush(), crc.to_bytes(4, "little"), (size & 0xFFFFFFFF).to_bytes(4, "little")]
    packed = b"".join(body)
    if max(size, len(packed) + len(FRAME) + hashlib.sha256().digest_size) > MAX_BYTES:
        raise BundleError(f"more than {MAX_BYTES} bytes: export a folder")
    return FRAME + hashlib.sha256(packed).digest() + packed


def _tar(files: Mapping[str, bytes]) -> Iterator[bytes]:
    for path, content in sorted(files.items()):
        if not LAYOUT.fullmatch(path):
            raise BundleError("has no place in a packed bundle: export a folder", file=path)
        if len(content) > MAX_FILE_BYTES:
            raise BundleError(f"larger than {MAX_FILE_BYTES} bytes", file=path)
        yield _header(path, len(content))
        yield content + bytes(-len(content) % BLOCK)
    yield END + END


def _header(path: str, size: int) -> bytes:
    """Return the one header (POSIX ustar) that a member of this path and size has."""
    start = path.encode("ascii").ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2
    start += b"%011o\0%011o\0" % (size, DATED)
    rest = b"0".ljust(101, b"\0") + b"ustar\x0000"
    rest = rest.ljust(BLOCK - len(start) - 8, b"\0")
    return start + b"%06o\0 " % (sum(start) + 8 * ord(" ") + sum(rest)) + rest


def unpack(path: Path) -> dict[str, bytes]:
    """Read every file of a packed bundle.

    Args:
        path: The packed bundle; it is not trusted.

    Raises:
        BundleError: It is damaged, cut off, too large, or not packed as `pack` does; names the file.
        OSError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return read_packed(file)
    except BundleError as error:
        raise BundleError(error.sentence, file=path.name) from None


def read_packed(file: IO[bytes]) -> dict[str, bytes]:
    """Read every file of a packed bundle from an open file; see `unpack`.

    Raises:
        BundleError: It is refused.
    """
    archive = _Unpacked(file)
    files: dict[str, bytes] = {}
    last = ""
    while (header := archive.take(BLOCK)) != END:
        path, size = _read_header(header)
        if path <= last:
            raise BundleError(f"{path} is in it twice, or out of order")
        if len(files) == MAX_MEMBERS:
            raise BundleError(f"holds more than {MAX_MEMBERS} files")
        if size > MAX_FILE_BYTES:
            raise BundleError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        files[path] = archive.take(size)
        if any(archive.take(-size % BLOCK)):
            raise BundleError(f"{path}: bytes stand behind its end")
        last = path
    if archive.take(BLOCK) != END:
        raise BundleError("its archive has no proper end")
    archive.finish()
    return files


def _read_header(header: bytes) -> tuple[str, int]:
    """Return path and size of a member.

    Raises:
        BundleError: Its name is none of a bundle, or another byte of the header than its path and size ask
            for: a link, a device, an extension, another owner, a damaged sum.
    """
    path = header[:100].rstrip(b"\0").decode("ascii", "replace")
    if not LAYOUT.fullmatch(path):
        raise BundleError("holds a file that is none of a bundle")
    digits = header[124:135]
    if not re.fullmatch(rb"[0-7]{11}", digits) or header != _header(path, int(digits, 8)):
        raise BundleError(f"{path} is not an ordinary file as `export` packs it")
    return path, int(digits, 8)


class _Unpacked:
    """The bytes of the archive in a packed bundle, unpacked piece by piece and no further than asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        """Check the frame's start.

        Raises:
            BundleError: It is no packed bundle.
        """
        self._file = file
        frame = file.read(len(FRAME))
        if frame != FRAME:
            raise BundleError("is cut off" if FRAME.startswith(frame) else OTHER)
        self._promised = file.read(hashlib.sha256().digest_size)
        self._digest = hashlib.sha256()
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._ready = bytearray()
        self._read_bytes, self._size, self._crc = 0, 0, 0

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            BundleError: There are fewer, or they are damaged.
        """
        while len(self._ready) < count:
            if self._inflate.eof:
                raise BundleError("its archive is cut off")
            self._fill()
        taken = bytes(self._ready[:count])
        del self._ready[:count]
        return taken

    def finish(self) -> None:
        """Check that nothing follows, and that nothing changed.

        Raises:
            BundleError: It did.
        """
        while not (self._ready or self._inflate.eof):
            self._fill()
        if self._ready:
            raise BundleError("bytes follow the end of its archive")
        trailer = self._inflate.unused_data
        while len(trailer) <= TRAILER_BYTES and (piece := self._read()):
            trailer += piece
        if len(trailer) != TRAILER_BYTES:
            raise BundleError("is cut off" if len(trailer) < TRAILER_BYTES else "bytes follow its end")
        sums = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        if trailer != sums or self._digest.digest() != self._promised:
            raise BundleError("is damaged: it is not what its own digest says")

    def _fill(self) -> None:
        """Unpack one more piece."""
        piece = self._inflate.unconsumed_tail or self._read()
        try:
            new = self._inflate.decompress(piece, PIECE)
        except zlib.error:
            raise BundleError("is damaged: it cannot be unpacked") from None
        if not (piece or new or self._inflate.eof):
            raise BundleError("is cut off")
        self._size += len(new)
        if self._size > MAX_BYTES:
            raise BundleError(f"unpacks to more than {MAX_BYTES} bytes")
        self._crc = zlib.crc32(new, self._crc)
        self._ready += new

    def _read(self) -> bytes:
        piece = self._file.read(PIECE)
        self._digest.update(piece)
        self._read_bytes += len(piece)
        if self._read_bytes > MAX_BYTES:
            raise BundleError(f"is larger than {MAX_BYTES} bytes")
        return piece

"""Hostile packed bundles, as data: each is what an attacker can put into a file that looks like a bundle.

Whatever is wrong inside, the digest in the frame is right (`framed`): it is no secret, so an attacker writes
it as well as the exporter does. Only attacks on the frame itself leave it wrong.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

from fedmedlora_audit.packed_bundle import (
    BLOCK,
    DATED,
    END,
    FRAME,
    MAX_BYTES,
    MAX_FILE_BYTES,
    MAX_MEMBERS,
    read_packed,
)

Files = Mapping[str, bytes]


PACKED_FILES: Final[Files] = {"checkpoint": b"head", "heads/12": b"", "tile/entries/000.p/3": b"x" * 700}
"""The files of a small bundle; nobody signed them."""


class PackedAttack(NamedTuple):
    """One hostile file: how it is made from an honest bundle's files, and what the reader says of it."""

    make: Callable[[Files], bytes]
    said: str


def framed(plain: bytes, *, digest: bytes | None = None, size: int | None = None) -> bytes:
    """Put the bytes of a tar archive into a packed bundle's frame, with the digest that fits."""
    return _framed([plain], digest=digest, size=size)


def read_framed(plain: bytes) -> object:
    """Read the bytes of a tar archive, whatever they are, as a packed bundle's."""
    return read_packed(io.BytesIO(framed(plain)))


def _framed(pieces: Iterable[bytes], *, digest: bytes | None = None, size: int | None = None) -> bytes:
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    body, crc, length = bytearray(), 0, 0
    for piece in pieces:
        body += deflate.compress(piece)
        crc, length = zlib.crc32(piece, crc), length + len(piece)
    body += deflate.flush() + crc.to_bytes(4, "little")
    body += ((length if size is None else size) & 0xFFFFFFFF).to_bytes(4, "little")
    return FRAME + (digest or hashlib.sha256(body).digest()) + body


def member(path: str, content: bytes = b"", **fields: Any) -> bytes:
    """Return one member; `fields` are those of a `tarfile.TarInfo` that an exporter would not set so."""
    info = tarfile.TarInfo(path)
    info.size, info.mtime = len(content), DATED
    form = fields.pop("form", tarfile.USTAR_FORMAT)
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(format=form) + content + bytes(-len(content) % BLOCK)


def devices_zeroed(header: bytes) -> bytes:
    """Write a member's header as older tarfile modules do: device numbers of zero where none belong."""
    changed = header[:329] + b"0000000\0" * 2 + header[345:]
    total = sum(changed[:148]) + 8 * 32 + sum(changed[156:BLOCK])
    return changed[:148] + b"%06o\0 " % total + changed[156:]


def archive(members: Iterable[bytes]) -> bytes:
    """Return a whole tar archive."""
    return b"".join(members) + END + END


def honest(files: Files) -> list[bytes]:
    """Return the members as the exporter writes them."""
    return [member(path, content) for path, content in sorted(files.items())]


def _with(*more: bytes) -> Callable[[Files], bytes]:
    """Add members at the end of an honest archive."""
    return lambda files: framed(archive([*honest(files), *more]))


def _first(**fields: Any) -> Callable[[Files], bytes]:
    """Set fields of the first member's header, ``charter.json``."""

    def make(files: Files) -> bytes:
        (path, content), *rest = sorted(files.items())
        return framed(archive([member(path, content, **fields), *honest(dict(rest))]))

    return make


def _bent(change: Callable[[bytes], bytes]) -> Callable[[Files], bytes]:
    """Change the bytes of an honest packed file."""
    return lambda files: change(framed(archive(honest(files))))


def _plain(change: Callable[[bytes], bytes]) -> Callable[[Files], bytes]:
    """Change the bytes of an honest archive before it is compressed and framed."""
    return lambda files: framed(change(archive(honest(files))))


def _huge_header(path: str, size: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.size, info.mtime = size, DATED
    return info.tobuf(format=tarfile.USTAR_FORMAT)


@cache
def _bomb(count: int, size: int) -> bytes:
    """Members full of zeros, which deflate packs a thousand to one."""
    zeros = bytes(size)
    return _framed(chain((member(f"heads/{number}", zeros) for number in range(1, 1 + count)), [END + END]))


def _behind_the_end(files: Files) -> bytes:
    return _framed([archive(honest(files)), bytes(2 * MAX_FILE_BYTES)])


@cache
def _many() -> bytes:
    return framed(archive(member(f"heads/{10**6 + number}") for number in range(MAX_MEMBERS + 1)))


def _two_streams(files: Files) -> bytes:
    """Two gzip streams in one file, as gzip allows; another reader would join them."""
    packed = framed(archive(honest(files)))
    return packed + packed


def _by_tarfile(files: Files) -> bytes:
    """Pack with Python's own tools, as anybody would who packs a bundle's folder again."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as made:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return target.getvalue()


NOT_OF_A_BUNDLE: Final = "holds a file that is none of a bundle"
NOT_ORDINARY: Final = "is not an ordinary file as `export` packs it"
TWICE: Final = "is in it twice, or out of order"
OTHER_PACKER: Final = "is not packed as `export` packs"

ATTACKS: Final[Mapping[str, PackedAttack]] = {
    # names that lead elsewhere
    "a_path_upwards": PackedAttack(
        lambda files: framed(archive([member("../trust.json", b"x"), *honest(files)])), NOT_OF_A_BUNDLE
    ),
    "a_path_upwards_inside": PackedAttack(_with(member("tile/../../x", b"x")), NOT_OF_A_BUNDLE),
    "a_path_from_the_root": PackedAttack(_with(member("/etc/passwd", b"x")), NOT_OF_A_BUNDLE),
    "a_path_of_windows": PackedAttack(_with(member("tile\\0\\000", b"x")), NOT_OF_A_BUNDLE),
    "a_path_that_begins_with_a_dot": PackedAttack(_with(member("./manifest", b"x")), NOT_OF_A_BUNDLE),
    "a_path_with_two_slashes": PackedAttack(_with(member("tile//0/000", b"x")), NOT_OF_A_BUNDLE),
    "a_path_in_the_prefix": PackedAttack(
        lambda files: framed(archive([*honest(files), member("a" * 60 + "/" + "b" * 60, b"x")])),
        NOT_OF_A_BUNDLE,
    ),
    "a_name_with_a_line_end": PackedAttack(_with(member("zz\nverdict: pass", b"x")), NOT_OF_A_BUNDLE),
    "a_name_in_other_digits": PackedAttack(_with(member("tile/0/\u0660\u0660\u0660", b"x")), NOT_OF_A_BUNDLE),
    "a_file_of_no_bundle": PackedAttack(_with(member("zz.txt", b"x")), NOT_OF_A_BUNDLE),
    "an_empty_name": PackedAttack(_with(member("", b"x")), NOT_OF_A_BUNDLE),
    # members that are no ordinary files
    "a_symbolic_link": PackedAttack(
        _with(member("tile/entries/001", type=tarfile.SYMTYPE, linkname="../../trust.json")), NOT_ORDINARY
    ),
    "a_hard_link": PackedAttack(
        _with(member("tile/entries/001", type=tarfile.LNKTYPE, linkname="charter.json")), NOT_ORDINARY
    ),
    "a_device": PackedAttack(_with(member("tile/entries/001", type=tarfile.CHRTYPE)), NOT_ORDINARY),
    "a_pipe": PackedAttack(_with(member("tile/entries/001", type=tarfile.FIFOTYPE)), NOT_ORDINARY),
    "a_folder": PackedAttack(_with(member("tile/entries/001", type=tarfile.DIRTYPE)), NOT_OF_A_BUNDLE),
    "a_sparse_file": PackedAttack(
        _with(member("tile/entries/001", type=tarfile.GNUTYPE_SPARSE)), NOT_ORDINARY
    ),
    "an_old_kind_of_file": PackedAttack(_first(type=tarfile.AREGTYPE), NOT_ORDINARY),
    "a_long_name_of_gnu": PackedAttack(
        _with(member("tile/entries/001" + "0" * 120, b"x", form=tarfile.GNU_FORMAT)), NOT_OF_A_BUNDLE
    ),
    "an_extended_header": PackedAttack(
        _with(member("tile/entries/001", b"x", pax_headers={"path": "../x"}, form=tarfile.PAX_FORMAT)),
        NOT_OF_A_BUNDLE,
    ),
    "an_extended_header_under_a_good_name": PackedAttack(
        _with(member("tile/entries/001", b"20 path=../trust.json\n", type=tarfile.XHDTYPE)), NOT_ORDINARY
    ),
    # headers that say more than path and size
    "an_executable_file": PackedAttack(_first(mode=0o755), NOT_ORDINARY),
    "a_file_with_a_set_user_bit": PackedAttack(_first(mode=0o4644), NOT_ORDINARY),
    "another_owner": PackedAttack(_first(uid=1000), NOT_ORDINARY),
    "a_named_owner": PackedAttack(_first(uname="root"), NOT_ORDINARY),
    "another_date": PackedAttack(_first(mtime=DATED + 1), NOT_ORDINARY),
    "a_header_of_another_form": PackedAttack(_first(form=tarfile.GNU_FORMAT), NOT_ORDINARY),
    "numbers_of_devices": PackedAttack(
        _plain(lambda plain: devices_zeroed(plain[:BLOCK]) + plain[BLOCK:]), NOT_ORDINARY
    ),
    "a_size_in_binary": PackedAttack(_plain(lambda plain: plain[:124] + b"\x80" + plain[125:]), NOT_ORDINARY),
    "a_wrong_sum_of_a_header": PackedAttack(
        _plain(lambda plain: plain[:148] + b"0000000\0" + plain[156:]), NOT_ORDINARY
    ),
    "bytes_behind_the_header": PackedAttack(
        _plain(lambda plain: plain[:511] + b"x" + plain[512:]), NOT_ORDINARY
    ),
    # names twice
    "a_file_twice": PackedAttack(_with(member("tile/entries/000.p/152", b"x")), TWICE),
    "another_manifest": PackedAttack(
        lambda files: framed(archive([*honest(files)[:3], member("manifest", b"x"), *honest(files)[3:]])),
        TWICE,
    ),
    "files_out_of_order": PackedAttack(lambda files: framed(archive(honest(files)[::-1])), TWICE),
    # too much
    "too_many_files": PackedAttack(lambda _: _many(), f"holds more than {MAX_MEMBERS} files"),
    "a_file_that_is_too_large": PackedAttack(
        _with(member("tile/entries/001", bytes(MAX_FILE_BYTES + 1))),
        f"tile/entries/001 is larger than {MAX_FILE_BYTES} bytes",
    ),
    "a_file_that_says_it_is_too_large": PackedAttack(
        _with(_huge_header("tile/entries/001", MAX_FILE_BYTES + 1)),
        f"tile/entries/001 is larger than {MAX_FILE_BYTES} bytes",
    ),
    "a_bomb_in_pieces": PackedAttack(
        lambda _: _bomb(4, MAX_FILE_BYTES), f"unpacks to more than {MAX_BYTES} bytes"
    ),
    "a_bomb_behind_the_end": PackedAttack(_behind_the_end, "bytes follow the end of its archive"),
    # cut off, or too long
    "nothing": PackedAttack(lambda _: b"", "is cut off"),
    "half_a_frame": PackedAttack(_bent(lambda packed: packed[:20]), "is cut off"),
    "cut_off_in_the_middle": PackedAttack(_bent(lambda packed: packed[: len(packed) // 2]), "is cut off"),
    "cut_off_before_the_sums": PackedAttack(_bent(lambda packed: packed[:-8]), "is cut off"),
    "cut_off_by_a_byte": PackedAttack(_bent(lambda packed: packed[:-1]), "is cut off"),
    "an_archive_without_an_end": PackedAttack(
        _plain(lambda plain: plain[: -2 * BLOCK]), "its archive is cut off"
    ),
    "half_an_end": PackedAttack(_plain(lambda plain: plain[:-BLOCK]), "its archive is cut off"),
    "an_end_of_something_else": PackedAttack(
        _plain(lambda plain: plain[:-BLOCK] + b"x" * BLOCK), "its archive has no proper end"
    ),
    "a_member_cut_off": PackedAttack(_plain(lambda plain: plain[:600]), "its archive is cut off"),
    "bytes_behind_a_member": PackedAttack(
        lambda files: framed(archive([member("charter.json", files["charter.json"])[:-1] + b"x"])),
        "bytes stand behind its end",
    ),
    "bytes_behind_the_archive": PackedAttack(
        _plain(lambda plain: plain + b"x"), "bytes follow the end of its archive"
    ),
    "zeros_behind_the_archive": PackedAttack(
        _plain(lambda plain: plain + bytes(BLOCK)), "bytes follow the end of its archive"
    ),
    "bytes_behind_the_file": PackedAttack(_bent(lambda packed: packed + b"\0"), "bytes follow its end"),
    "two_files_in_one": PackedAttack(_two_streams, "bytes follow its end"),
    # the frame
    "no_frame": PackedAttack(lambda files: archive(honest(files)), OTHER_PACKER),
    "a_frame_with_a_name": PackedAttack(
        _bent(lambda packed: packed[:3] + b"\x0c" + packed[4:]), OTHER_PACKER
    ),
    "a_frame_without_a_digest": PackedAttack(
        _bent(lambda packed: FRAME[:3] + b"\0" + FRAME[4:10] + packed[len(FRAME) + 32 :]), OTHER_PACKER
    ),
    "another_digest": PackedAttack(
        lambda files: framed(archive(honest(files)), digest=b"x" * 32), "is damaged"
    ),
    "another_length": PackedAttack(lambda files: framed(archive(honest(files)), size=5), "is damaged"),
    "no_deflate": PackedAttack(
        _bent(lambda packed: packed[: len(FRAME) + 32] + b"\xff" * 64), "cannot be unpacked"
    ),
    "a_zip_file": PackedAttack(lambda _: b"PK\x03\x04" + bytes(60), OTHER_PACKER),
    "another_tool_s_file": PackedAttack(_by_tarfile, OTHER_PACKER),
}

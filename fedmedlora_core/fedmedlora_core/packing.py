"""Ring vectors on the wire: frames of 1 MiB that hold whole words of 16, 24 or 32 bits (PROTOCOL §4.5).

R4.5.1: a vector is cut into frames of floor(2**20 / (bits / 8)) words; every frame but the last is filled up
to 1 MiB with zero bytes, and the last one ends with its last word. A frame is one chunk of the blob that
carries the vector (PROTOCOL §3.2), so that a chunk can be checked, added or recomputed without its
neighbours. One vector has exactly one encoding, and the number of bytes tells the number of words.

Only the low bits of a word travel: a sum modulo 2**bits depends on nothing else, whatever the masks - added
modulo 2**32 - have left above them.

All work is done frame by frame; nothing here holds a second vector. A 24-bit word is read and written as four
bytes at a stride of three, which costs a tenth of copying three bytes a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmedlora_core.errors import CodecError

RingVector = NDArray[np.uint32]
Frame = bytes | bytearray | memoryview

FRAME_BYTES = 1 << 20
"""Bytes of a full frame: one chunk of a blob."""
WIRE_BITS = (16, 24, 32)
"""Widths in bits that a word may have on the wire, narrowest first."""


@dataclass(frozen=True)
class Packing:
    """The frames of ring vectors of one length and width (PROTOCOL §4.5).

    Args:
        bits: Width of a word on the wire; 16, 24 or 32.
        count: Words in a vector; >= 1.

    Raises:
        CodecError: Another width, or no word (the caller's mistake).
    """

    bits: int
    count: int

    def __post_init__(self) -> None:
        """Refuse what cannot be packed."""
        if self.bits not in WIRE_BITS or self.count < 1:
            raise CodecError("a packed vector has at least one word of 16, 24 or 32 bits")

    @property
    def word_bytes(self) -> int:
        """Bytes of one word on the wire."""
        return self.bits // 8

    @property
    def frame_words(self) -> int:
        """Words in a full frame."""
        return FRAME_BYTES // self.word_bytes

    @property
    def frames(self) -> int:
        """Number of frames; >= 1."""
        return -(-self.count // self.frame_words)

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole vector on the wire."""
        last = self.frames - 1
        return last * FRAME_BYTES + (self.count - last * self.frame_words) * self.word_bytes

    @property
    def padding_offsets(self) -> range:
        """Where in the blob the padding byte of each full frame lies; there is at most one in a frame."""
        # R4.5.2: 2**20 is a multiple of 2 and 4, and one more than a multiple of 3.
        if self.bits != 24:
            return range(0)
        return range(FRAME_BYTES - 1, (self.frames - 1) * FRAME_BYTES, FRAME_BYTES)

    def span(self, index: int) -> tuple[int, int]:
        """First word of a frame and the word after its last one.

        Raises:
            CodecError: There is no such frame.
        """
        if not 0 <= index < self.frames:
            raise CodecError(f"frame {index} is outside a vector of {self.frames} frames")
        first = index * self.frame_words
        return first, min(first + self.frame_words, self.count)

    def frame_bytes(self, index: int) -> int:
        """Bytes of a frame."""
        first, last = self.span(index)
        return FRAME_BYTES if index + 1 < self.frames else (last - first) * self.word_bytes

    def pack(self, vector: RingVector, index: int) -> bytes:
        """Pack one frame of a vector (PROTOCOL §4.5).

        Args:
            vector: uint32 of shape `(count,)`; bits above `bits` are ignored.
            index: The frame; 0 <= index < frames.
        """
        first, last = self.span(index)
        return self.pack_words(vector[first:last], index)

    def pack_words(self, words: RingVector, index: int) -> bytes:
        """Pack the words of one frame, for whoever holds no whole vector.

        Raises:
            CodecError: Another number of words than the frame has (the caller's mistake).
        """
        first, last = self.span(index)
        if words.shape != (last - first,):
            raise CodecError(f"frame {index} has {last - first} words, not {words.shape[0]}")
        if self.bits == 32:
            return bytes(_bytes_of(words))
        if self.bits == 16:
            return words.astype("<u2").tobytes()
        return _pack24(words, self.frame_bytes(index))

    def frames_of(self, vector: RingVector) -> Iterator[Frame]:
        """Pack a vector frame by frame; whole words of 32 bits are not copied.

        Yields:
            Frames; one may be a view of the vector, so it is to be used before the vector changes.

        Raises:
            CodecError: The vector has another length (the caller's mistake).
        """
        if vector.shape != (self.count,):
            raise CodecError(f"expected a vector of {self.count} words")
        for index in range(self.frames):
            first, last = self.span(index)
            yield _bytes_of(vector[first:last]) if self.bits == 32 else self.pack(vector, index)

    def words(self, frame: Frame, index: int) -> NDArray[Any]:
        """Check one frame and view its words; nothing is copied but a last frame (PROTOCOL §4.5).

        Args:
            frame: The bytes that arrived.
            index: Which frame they are.

        Returns:
            Read-only array of unsigned numbers whose low `bits` bits count; what is above is arbitrary.

        Raises:
            CodecError: A wrong length, or padding that is not zero (the sender's fault).
        """
        first, last = self.span(index)
        if len(frame) != self.frame_bytes(index):
            raise CodecError(f"frame {index} has {len(frame)} bytes, expected {self.frame_bytes(index)}")
        count = last - first
        if self.bits != 24:
            return np.frombuffer(frame, dtype="<u2" if self.bits == 16 else "<u4")
        if index + 1 < self.frames:
            # R4.5.2: bytes that nobody looks at would give one vector several digests.
            if frame[FRAME_BYTES - 1]:
                raise CodecError(f"the padding of frame {index} is not zero")
        else:
            frame = bytes(frame) + b"\0"  # the last word is read as four bytes
        view = _overlapping(frame, count)
        view.flags.writeable = False
        return view

    def add(self, total: RingVector, frame: Frame, index: int) -> None:
        """Add one frame to its place in a vector, modulo 2**32 (so modulo 2**bits in the low bits).

        Raises:
            CodecError: See `words`; the total is unchanged then.
        """
        first, last = self.span(index)
        part = total[first:last]
        np.add(part, self.words(frame, index), out=part, casting="unsafe")

    def unpack(self, frame: Frame, index: int) -> RingVector:
        """Return the words of one frame, each below 2**bits.

        Raises:
            CodecError: See `words`.
        """
        out = self.words(frame, index).astype(np.uint32)
        if self.bits == 24:
            np.bitwise_and(out, np.uint32(0xFFFFFF), out=out)
        return out

    def read(self, frames: Iterable[Frame], *, out: RingVector | None = None) -> RingVector:
        """Read a whole vector; memory stays at one vector and one frame.

        Args:
            frames: The frames, in order.
            out: uint32 of shape `(count,)` that takes the vector; a new one when left out.

        Raises:
            CodecError: A frame is malformed, or there are too few or too many (the sender's fault).
        """
        vector = np.empty(self.count, dtype=np.uint32) if out is None else out
        index = -1
        for index, frame in enumerate(frames):
            first, last = self.span(index)
            vector[first:last] = self.unpack(frame, index)
        if index + 1 != self.frames:
            raise CodecError(f"the vector ends after {index + 1} of {self.frames} frames")
        return vector

    def tail(self, fetch: Callable[[int], Frame], count: int) -> tuple[int, ...]:
        """Read the last words of a vector from its last frames alone.

        Args:
            fetch: Gives a frame by its index.
            count: Words wanted; at most those of a full frame.

        Raises:
            CodecError: A frame is malformed (the sender's fault).
        """
        last = self.frames - 1
        words = self.unpack(fetch(last), last)
        if len(words) < count and last:
            words = np.concatenate([self.unpack(fetch(last - 1), last - 1)[-count:], words])
        return tuple(int(word) for word in words[-count:])

    def read_bytes(self, data: Frame) -> RingVector:
        """Read a vector that lies in memory whole.

        Raises:
            CodecError: Its length or its padding is wrong (the sender's fault).
        """
        view = memoryview(data)
        if len(view) != self.total_bytes:
            raise CodecError(f"the vector has {len(view)} bytes, expected {self.total_bytes}")
        return self.read(view[start : start + FRAME_BYTES] for start in range(0, len(view), FRAME_BYTES))


def _bytes_of(words: RingVector) -> memoryview:
    """View words of 32 bits as their bytes on the wire."""
    return np.ascontiguousarray(words, dtype="<u4").view(np.uint8).data.toreadonly()


def _pack24(words: RingVector, total_bytes: int) -> bytes:
    """Pack words into three bytes each, with zero bytes up to `total_bytes`."""
    count = words.shape[0]
    out = bytearray(max(total_bytes, count * 3 + 1))
    if _writes_ascend():
        _overlapping(out, count)[:] = words
    else:  # pragma: no cover - no known numpy copies in another order
        _byte_planes(out, words)
    out[count * 3] = 0  # the upper byte of the last word
    return bytes(memoryview(out)[:total_bytes])


def _overlapping(buffer: Frame, count: int) -> NDArray[Any]:
    """View words of 24 bits as four bytes each, the fourth being the next word's first."""
    return np.ndarray((count,), dtype="<u4", buffer=buffer, strides=(3,))


def _byte_planes(out: bytearray, words: RingVector) -> None:
    """Copy the three low bytes of each word: needs no order of writes, and takes three times as long."""
    target = np.frombuffer(out, dtype=np.uint8)[: words.shape[0] * 3].reshape(-1, 3)
    source = words.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4)
    for place in range(3):
        target[:, place] = source[:, place]


@cache
def _writes_ascend() -> bool:
    """Tell whether numpy copies one-dimensional arrays from the first value to the last.

    Packing writes four bytes a word and lets the next word overwrite the fourth. numpy promises no order, so
    the one it has is looked at, once a process, on as many words as it copies in one go.
    """
    words = np.arange(100_003, dtype=np.uint32) * np.uint32(2_654_435_761)
    ascending, planes = bytearray(words.size * 3 + 1), bytearray(words.size * 3 + 1)
    _overlapping(ascending, words.size)[:] = words
    _byte_planes(planes, words)
    return ascending[:-1] == planes[:-1]

"""Ways in which a text can lie in a file unseen: what a search for canaries has to see through.

Written without the search's own code, so that the two can be played against each other.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save

Hide = Callable[[str], bytes]


def based(before: int, *, url_safe: bool = False) -> Hide:
    """Base64 of a sentence in which the text begins at byte `before` of three."""
    write = base64.urlsafe_b64encode if url_safe else base64.b64encode
    return lambda text: write(b"???"[:before] + text.encode() + b"??~~??")


def in_zip(text: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("first.txt", "nothing " * 50)
        archive.writestr("folder/second.txt", f"seen: {text} " * 3)
    return out.getvalue()


def in_safetensors(text: str) -> bytes:
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "layer.weight": np.zeros(64, dtype=np.float32),
        "note": np.frombuffer(text.encode(), np.uint8),
    }
    return save(tensors)


def in_safetensors_as_numbers(text: str) -> bytes:
    return save({"note": np.array([ord(character) for character in text], dtype=np.int32)})


def in_database(text: str, *, before: int = 0, after: int = 0) -> bytes:
    """A database with the text in a value, with so many letters around it."""
    database = sqlite3.connect(":memory:")
    try:
        database.execute("CREATE TABLE entries (number INTEGER PRIMARY KEY, note BLOB)")
        database.execute("INSERT INTO entries (note) VALUES (?)", ("x" * before + text + "x" * after,))
        database.commit()
        return database.serialize()
    finally:
        database.close()


def across_pages(text: str) -> bytes:
    """A database in whose bytes the text is torn apart: a page ends inside it."""
    for before in range(3000, 9000, len(text) // 2):
        data = in_database(text, before=before, after=9000 - before)
        if text.encode() not in data:
            return data
    raise AssertionError("no page border fell into the text")


HIDING: Mapping[str, Hide] = {
    "plain": lambda text: text.encode(),
    "capitals": lambda text: text.upper().encode(),
    "small letters": lambda text: text.lower().encode(),
    "hex": lambda text: text.encode().hex().encode(),
    "hex in capitals": lambda text: text.encode().hex().upper().encode(),
    "hex dump": lambda text: text.encode().hex(" ").encode(),
    "hex of small letters": lambda text: text.lower().encode().hex().encode(),
    "base64, begins at 0": based(0),
    "base64, begins at 1": based(1),
    "base64, begins at 2": based(2),
    "URL-safe base64, begins at 0": based(0, url_safe=True),
    "URL-safe base64, begins at 1": based(1, url_safe=True),
    "URL-safe base64, begins at 2": based(2, url_safe=True),
    "base64 in lines": lambda text: base64.encodebytes(b"y" * 50 + text.encode() + b"y" * 50),
    "base64 of UTF-16": lambda text: base64.b64encode(text.encode("utf-16-le")),
    "reversed": lambda text: text[::-1].encode(),
    "UTF-16 LE": lambda text: text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
    "UTF-16 with a mark": lambda text: text.encode("utf-16"),
    "UTF-32": lambda text: text.encode("utf-32-le"),
    "groups": lambda text: "-".join(text[k : k + 3] for k in range(0, len(text), 3)).encode(),
    "JSON": lambda text: json.dumps({"text": text}).encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "zlib": lambda text: zlib.compress(text.encode()),
    "zlib, fastest": lambda text: zlib.compress(text.encode(), 1),
    "zlib, smallest": lambda text: zlib.compress(text.encode(), 9),
    "gzip in gzip": lambda text: gzip.compress(gzip.compress(os.urandom(3000) + text.encode())),
    "gzip behind other bytes": lambda text: (
        b"head\n" * 99 + gzip.compress(b"." * 9999 + text.encode()) + b"end"
    ),
    "gzip of a hex line": lambda text: gzip.compress(text.encode().hex().encode()),
    "gzip cut off": lambda text: gzip.compress(text.encode() + os.urandom(99_999))[:-2000],
    "zip member": in_zip,
    "safetensors": in_safetensors,
    "safetensors, one number a letter": in_safetensors_as_numbers,
    "database": in_database,
    "database, across pages": across_pages,
}

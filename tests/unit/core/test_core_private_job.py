"""The digest of a private training: everything that decides it changes it, and fields do not run together."""

from __future__ import annotations

import hashlib
from typing import Any

from fedmedlora_core.private_job import job_digest

JOB: dict[str, Any] = {"charter": "c" * 64, "round_number": 3, "base": "b" * 64, "notes": b"notes\n"}


def test_each_field_changes_the_digest() -> None:
    other: list[dict[str, Any]] = [
        {"charter": "d" * 64},
        {"round_number": 4},
        {"base": "a" * 64},
        {"notes": b"notes"},
    ]
    found = {job_digest(**(JOB | change)) for change in ({}, *other)}
    assert len(found) == 5
    assert all(len(digest) == 32 for digest in found)


def test_fields_do_not_run_together() -> None:
    assert job_digest(charter="a", round_number=1, base="bc", notes=b"") != job_digest(
        charter="a", round_number=1, base="b", notes=b"c"
    )


def test_the_digest_is_the_one_that_is_written_down() -> None:
    fields = (b"charter", b"12", b"base", b"notes")
    joined = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    wanted = hashlib.sha256(b"fedmedlora/private-job/1\0" + joined).digest()
    assert job_digest(charter="charter", round_number=12, base="base", notes=b"notes") == wanted

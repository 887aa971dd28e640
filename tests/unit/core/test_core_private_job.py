"""The digest of a private training: everything that decides it changes it, and fields do not run together."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from fedmedlora_core.private_job import job_digest, machine_of

JOB: dict[str, Any] = {
    "charter": "c" * 64,
    "round_number": 3,
    "base": "b" * 64,
    "notes": b"notes\n",
    "machine": "m",
}


def test_each_field_changes_the_digest() -> None:
    other: list[dict[str, Any]] = [
        {"charter": "d" * 64},
        {"round_number": 4},
        {"base": "a" * 64},
        {"notes": b"notes"},
        {"machine": "n"},
    ]
    found = {job_digest(**(JOB | change)) for change in ({}, *other)}
    assert len(found) == 6
    assert all(len(digest) == 32 for digest in found)


def test_fields_do_not_run_together() -> None:
    assert job_digest(charter="a", round_number=1, base="bc", notes=b"", machine="") != job_digest(
        charter="a", round_number=1, base="b", notes=b"c", machine=""
    )


def test_the_digest_is_the_one_that_is_written_down() -> None:
    fields = (b"charter", b"12", b"base", b"notes", b"machine")
    joined = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    wanted = hashlib.sha256(b"fedmedlora/private-job/1\0" + joined).digest()
    assert (
        job_digest(charter="charter", round_number=12, base="base", notes=b"notes", machine="machine")
        == wanted
    )


def test_other_libraries_or_another_device_are_another_training(monkeypatch: pytest.MonkeyPatch) -> None:
    # R4.13.4: with the same noise, gradients that differ by roundings would stand without it
    here = machine_of("cpu")
    assert here == machine_of("cpu") != machine_of("cuda")
    assert "torch==" in here and "opacus==" in here
    monkeypatch.setattr("fedmedlora_core.private_job.metadata.version", lambda name: "9.9")
    assert machine_of("cpu") != here

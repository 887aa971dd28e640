"""Which verifier judged: version and digest, so that two reviewers can tell whether they ran the same one."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fedmedlora_audit


def verifier_version() -> str:
    """Return the name and version of the program that judges."""
    try:
        return f"fedmedlora {version('fedmedlora')}"
    except PackageNotFoundError:
        return "fedmedlora, run from its sources"


def verifier_digest(root: Path | None = None) -> str:
    """Return SHA-256 over the verifier's sources, 64 hex (AUDIT "Report").

    It is what ``find . -name '*.py' | LC_ALL=C sort | xargs sha256sum | sha256sum`` says in the folder of the
    installed ``fedmedlora_audit``. A changed verifier can of course print any digest: compare it where the
    package was installed, not on the page alone.

    Args:
        root: Folder of the sources; None for those that run.
    """
    folder = root if root is not None else Path(fedmedlora_audit.__file__).parent
    names = sorted(f"./{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.py"))
    lines = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()

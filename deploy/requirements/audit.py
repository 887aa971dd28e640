"""Asks an advisory service for the known vulnerabilities of every pinned package (`make security`).

pip-audit asks; it has no mode without a network, ends in a traceback when nobody answers, and counts a
package that the service does not know as sound. Here each of the three ends as one line: 0 nothing is
known against any package, 1 something is, 2 it was not found out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FILES = ("coordinator", "site", "reviewer", "build", "tools")
FOUND, UNKNOWN = 1, 2


def report_of(name: str) -> list[dict[str, Any]] | None:
    """Return what is known of each package of a file; None when nobody could be asked."""
    asked = subprocess.run(
        [
            str(Path(sys.executable).with_name("pip-audit")),
            *("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"),
            *("--requirement", str(HERE / f"{name}.txt")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return list(json.loads(asked.stdout)["dependencies"])
    except (ValueError, KeyError, TypeError):
        return None


def judged(name: str, report: list[dict[str, Any]] | None) -> tuple[int, list[str]]:
    """Say what a report means: an exit code, and the lines for whoever ran this."""
    if report is None:
        line = f"{name}.txt: known vulnerabilities NOT checked: no advisory service answered (network?)"
        return UNKNOWN, [line]
    against = [
        f"{name}.txt: {package['name']} {package['version']}: {flaw['id']},"
        f" fixed in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for package in report
        for flaw in package.get("vulns", ())
    ]
    if against:
        return FOUND, against
    skipped = [package["name"] for package in report if "skip_reason" in package]
    if skipped or not report:
        line = (
            f"{name}.txt: known vulnerabilities NOT checked: the advisory service does not know"
            f" {len(skipped)} of {len(report)} packages ({', '.join(skipped[:3])}, …)"
        )
        return UNKNOWN, [line]
    return 0, [f"{name}.txt: nothing is known against its {len(report)} packages"]


def main() -> int:
    """Ask for each file; end at the first that nobody can say anything of."""
    worst = 0
    for name in FILES:
        code, lines = judged(name, report_of(name))
        sys.stdout.writelines(f"{line}\n" for line in lines)
        if code == UNKNOWN:
            return FOUND if worst == FOUND else UNKNOWN
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())

"""Canary patients: marks that occur nowhere by chance, and the search that shows that none got out.

A hospital puts a few invented patients with marked names and numbers among its notes and keeps a file of the
marks. Whatever leaves the hospital - log, bundle, exports, reports, process logs, the coordinator's folder -
is then searched for them, in the forms in which text usually hides (AUDIT "Canaries").

    report = scan_folder(Path("bundle"), Canaries.load([Path("canaries.json")]))
    print(report.verdict, report.found)

What this package leaves out: encrypted content, and a meaning without the marks. A clean search shows that
the notes did not leave as text; it says nothing about what a model has learnt.
"""

from fedmedlora_audit.canary.folder import Found, Report, scan_folder
from fedmedlora_audit.canary.marks import Canaries, Canary, CanaryError

__all__ = ["Canaries", "Canary", "CanaryError", "Found", "Report", "scan_folder"]

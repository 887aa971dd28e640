"""The report of an audit: what a verdict means, for people who were not watching (AUDIT "Report").

`build_report` turns a verdict into plain values; `Report.to_json` gives the same content to scripts. How it
looks is the command line's business.

What this does not do: judge. Every row says what the verifier found or what a signed event says.
"""

from fedmedlora_audit.report.build import build_report
from fedmedlora_audit.report.model import Report

__all__ = ["Report", "build_report"]

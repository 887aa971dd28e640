"""One page of a folder of results: tables and plots of what `fedmedlora bench … --json` wrote."""

from fedmedlora_bench.report.page import write_report

__all__ = ["write_report"]

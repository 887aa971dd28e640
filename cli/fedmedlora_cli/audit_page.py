"""The audit's report as one self-contained HTML page: no scripts, no outside links, made for print."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedmedlora_audit.report import Report


def render_page(report: Report) -> str:
    """Return the page's HTML; every value is escaped.

    Args:
        report: From `fedmedlora_audit.report.build_report`.
    """
    environment = Environment(
        loader=PackageLoader("fedmedlora_cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = _moment
    environment.filters["names"] = _names
    return environment.get_template("audit.html.j2").render(
        r=report,
        areas=[(area, list(rows)) for area, rows in groupby(report.checks, key=lambda row: row.area)],
        results={"pass": "holds", "fail": "broken", "not judged": "not judged"},
    )


def _names(names: Iterable[str]) -> str:
    """Write ids, escaped, as a list that breaks at its commas only."""
    whole = Markup('<span class="nowrap">{}</span>')
    return Markup(", ").join(whole.format(name) for name in names) or "nobody"


def _moment(time: str) -> str:
    """Write a time of the log for people."""
    return time.replace("T", " ").replace("Z", " UTC") if time else "-"

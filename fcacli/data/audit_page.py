"""The audit as one HTML file that needs nothing else: totals, histograms, what is left out, and what random clips become.

Whatever comes from files (captions, names, reasons) is escaped by the template engine; the page asks its reader's browser
for nothing but itself.
"""

from pathlib import Path
from typing import Any

from fcacli.data.audit import amount, duration
from fcacli.data.contact_sheet import COLUMNS
from fcacli.data.plan import Plan
from fcacli.data.sampling import SEER_FRAMES

TEMPLATE = "audit_page.html.j2"
MOST_ROWS = 500
"""Excluded clips on the page; all are in audit.json."""


def audit_page(path: Path, found: dict[str, Any], plan: Plan) -> None:
    """Write the page of what `fcacli.data.audit.audit` found."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"amount": amount, "duration": duration, "number": lambda value: f"{value:,}"}
    given = plan.form.init_frames or SEER_FRAMES.get(found["reader"], (1, 0))[0]
    excluded = found["excluded"][:MOST_ROWS]
    page = environment.get_template(TEMPLATE).stream(
        found=found, excluded=excluded, strips=list(_strips(plan)), given=given, columns=COLUMNS
    )
    with path.open("wb") as file:
        page.dump(file, encoding="utf-8", errors="xmlcharrefreplace")


def _strips(plan: Plan) -> Any:
    """Of each clip on the contact sheet: the strip, the clip and its caption."""
    for position in sorted(plan.on_sheet()):
        for _, text, stored in plan.stored(f"position = {position}"):
            if stored.strip is not None:
                yield {"strip": stored.strip, "clip": stored.clip, "text": text}

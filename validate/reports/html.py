"""The record of a profile as one page that needs nothing else: no scripts, no network."""

from collections.abc import Mapping, Sequence
from html import escape

from validate.reports import variants
from validate.reports.predicted import Predicted
from validate.reports.svg import BAND, legend, scatter
from validate.reports.text import (
    ACCEPTANCE_HEADER,
    LEGEND,
    OP_HEADER,
    accepted_cells,
    machine_rows,
    op_cells,
    protocol_rows,
)

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --ink: CanvasText; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .7rem .2rem 0; text-align: left;
  vertical-align: top; } td.number, th.number { text-align: right; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } svg text { fill: var(--ink); font-size: 10px; }
svg .title { font-size: 12px; font-weight: 600; } svg .axis { text-anchor: middle; }
svg .tick { text-anchor: end; } svg .grid { stroke: var(--line); } svg .diagonal { stroke: var(--ink); }
svg .band { stroke: var(--ink); stroke-dasharray: 3 3; opacity: .5; } svg circle { opacity: .8; }
.legend i { border-radius: 50%; display: inline-block; height: .7em; margin: 0 .3em 0 1em; width: .7em; }
.warning { border-left: 4px solid #d55e00; padding-left: .8rem; }
"""


def as_html(record: Mapping, rows: Sequence[Predicted], accepted: Sequence = ()) -> str:
    """Return the whole page.

    Parameters
    ----------
    record : mapping
        Of ``validate.reports.record.profile_record``.
    rows : sequence of Predicted
        Points to plot, op by op.
    accepted : sequence of Accepted
        Steps of decoders to plot.
    """
    title = f"{record['id']}: {record['name']}"
    numbers = range(3, 10)
    parts = [f"<h1>{escape(title)}</h1>", _warning(record)]
    parts += ["<h2>Machine and run</h2>", _table([], [*machine_rows(record), *protocol_rows(record)])]
    parts += ["<h2>Kernels</h2>", _table(OP_HEADER, [op_cells(row) for row in record["ops"]], numbers)]
    parts.append(f"<p>{escape(' '.join(LEGEND.split()))}</p>")
    if record["acceptance"]:
        cells = [accepted_cells(group) for group in record["acceptance"]]
        parts += [
            "<h2>Decoders that took no part in the fit</h2>",
            _table(ACCEPTANCE_HEADER, cells, range(2, 8)),
        ]
    if record["variants"]:
        cells = [variants.variant_cells(row) for row in record["variants"]]
        parts += ["<h2>Other kernels</h2>", _table(variants.HEADER, cells, range(3, 7))]
        parts.append(f"<p>{escape(' '.join(variants.LEGEND.split()))}</p>")
    parts += ["<h2>Predicted against measured</h2>", *_plots(rows, accepted)]
    if record["skipped"]:
        cells = [[row["probe"], row["case"] or "all", row["reason"]] for row in record["skipped"]]
        parts += ["<h2>Skipped</h2>", _table(["probe", "case", "reason"], cells)]
    body = "\n".join(part for part in parts if part)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _warning(record: Mapping) -> str:
    if record["protocol"]["steady"]:
        return ""
    return '<p class="warning">The machine was not steady: times drifted while it was measured.</p>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    def line(tag: str, cells) -> str:
        marked = (
            f"<{tag}{' class=number' if i in numbers else ''}>{escape(str(cell))}</{tag}>"
            for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    top = [line("th", header)] if header else []
    return "\n".join(["<table>", *top, *(line("td", row) for row in rows), "</table>"])


def _plots(rows: Sequence[Predicted], accepted: Sequence) -> list[str]:
    """Return the plots: one for each op, formats in colours, and one of whole decoder steps."""
    ops: dict[str, dict[str, list]] = {}
    for row in rows:
        at = (row.point.seconds_min, row.seconds, row.point.case)
        ops.setdefault(row.point.op, {}).setdefault(row.point.format, []).append(at)
    for step in accepted:
        label = f"batch {step.batch}, {step.tokens} new, {step.past} cached"
        at = (step.measured_s, step.predicted_s, f"{step.decoder} {label}")
        ops.setdefault("decoder steps", {}).setdefault(f"{step.decoder} {step.phase}", []).append(at)
    if not ops:
        return ["<p>The file of points was not found beside the profile: nothing to plot.</p>"]
    figures = [f"<figure>{scatter(op, series)}{legend(list(series))}</figure>" for op, series in ops.items()]
    note = f"<p>The line is equality, the dashed ones are {100 * (BAND - 1):.0f} % off.</p>"
    return [note, '<div class="plots">', *figures, "</div>"]

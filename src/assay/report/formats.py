"""The numbers as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv as csv_module
import dataclasses
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.evaluation.analysis.rejection import REJECTION_FIELDS
from assay.report import brackets, corruptions, pairs, verdicts
from assay.report.charts import curve
from assay.report.export import still
from assay.report.groups import NOT_ADAPTIVE, Group, Line, groups
from assay.report.headline import headline
from assay.report.tables import notes, passes
from assay.report.theme import IN_FILE

if TYPE_CHECKING:
    from assay.evaluation.analysis.brackets import BracketTable
    from assay.evaluation.analysis.corruptions import CorruptionTable
    from assay.evaluation.analysis.score import Result
    from assay.evaluation.run import Run

NOT_AUDITED = "not audited"
_COLUMNS = (
    "attack",
    "eps",
    "grey levels",
    "accuracy",
    "95 % interval",
    "attack success",
    "median size",
    "passes/image",
)
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "∞": r"$\infty$", "₂": r"$_2$", "₁": r"$_1$", "₀": r"$_0$", "—": "---", "–": "--", "·": r"$\cdot$",
    "\u00a0": "~", "✓": r"$\surd$", "✗": r"$\times$", "≤": r"$\leq$",
}  # fmt: skip


def markdown(run: Run) -> str:
    """Return the run's tables as Markdown."""
    parts, stages = [f"# {in_markdown(run.study)}"], run.stages()
    for group in groups(run):
        parts.append(f"## {in_markdown(group.model)} on {in_markdown(group.data)}")
        parts.append(f"{words.plural(group.n, 'image')}, {in_markdown(group.kind)}, clean {group.clean}")
        columns = _columns(group)
        lines = [_row(columns), _row(["---"] + ["---:"] * (len(columns) - 1))]
        lines += [_row([in_markdown(cell) for cell in cells]) for cells in _cells(group)]
        parts.append("\n".join(lines))
        parts += [f"- {in_markdown(note)}" for note in [*notes(group, stages), *verdicts.lines(group), *_legend(group)]]
    for bracket in run.brackets():
        told = [f"- {in_markdown(line)}" for line in brackets.lines(bracket)]
        heading = f"## {in_markdown(brackets.title(bracket))}: certified and robust"
        parts += [heading, in_markdown(brackets.about(bracket)), _markdown_table(brackets.texts(bracket)), *told]
    for pair, beneath in pairs.with_notes(run.pairs()):
        told = [f"- {in_markdown(line)}" for line in beneath]
        heading = f"## {in_markdown(pairs.title(pair))}: the pair"
        parts += [heading, in_markdown(pairs.about(pair)), _markdown_table(pairs.texts(pair)), *told]
    parts += [part for table in run.corruptions() for part in _markdown_corruptions(table)]
    parts += [f"**Not reportable:** {in_markdown(reason)}" for reason in run.manifest["not_reportable_because"]]
    return "\n\n".join(parts) + "\n"


def _markdown_corruptions(table: CorruptionTable) -> list[str]:
    heading = f"## {in_markdown(corruptions.title(table))}: {corruptions.AVERAGE_CASE}"
    notes = [f"- {in_markdown(line)}" for line in corruptions.lines(table)]
    return [heading, in_markdown(corruptions.about(table)), _markdown_table(corruptions.texts(table)), *notes]


def _markdown_table(rows: list[list[str]]) -> str:
    head, *body = rows
    made = [_row(head), _row(["---"] + ["---:"] * (len(head) - 1))]
    return "\n".join([*made, *(_row([in_markdown(cell) for cell in row]) for row in body)])


def notebook(run: Run) -> str:
    """Return a run as HTML for a notebook: what is left in a sentence, the curve (SVG), and the tables.

    Each number has the verdict on it beside it, or "not audited". There is no script in it.
    """
    parts = []
    for group in groups(run):
        parts.append(f"<p>{escape(str(headline(group)))}</p>{still(curve(group, IN_FILE))}")
        about = f"{group.model} on {group.data}: {words.plural(group.n, 'image')}, {group.kind}, clean {group.clean}"
        two = ["strict robust accuracy"] if _shows_strict(group) else []
        rows = [["attack", "eps", group.measure, "95 % interval", *two, "verdict"]]
        for line in group.shown:
            for result in line.results:
                told = verdicts.told(group, result)
                lacking = NOT_AUDITED if line.adaptive else NOT_ADAPTIVE
                verdict = f"{told.mark} {told.verdict}" if told.verdict else lacking
                strict = [str(group.strict_left(result) or "")] if two else []
                kept = f"{told.kept} ({told.before})" if told.before else told.kept
                rows.append([line.label, result.eps_written, kept, told.range, *strict, verdict])
        parts.append(_html_table(about, rows))
        parts += [
            f"<p>{escape(line)}</p>" for line in [*group.asked, *verdicts.refusals(group), *verdicts.lines(group)]
        ]
    for bracket in run.brackets():
        parts.append(_html_table(f"{brackets.title(bracket)}: {brackets.about(bracket)}", brackets.texts(bracket)))
        parts += [f"<p>{escape(line)}</p>" for line in brackets.lines(bracket)]
    for pair, beneath in pairs.with_notes(run.pairs()):
        parts.append(_html_table(f"{pairs.title(pair)}: {pairs.about(pair)}", pairs.texts(pair)))
        parts += [f"<p>{escape(line)}</p>" for line in beneath]
    for table in run.corruptions():
        about = f"{corruptions.title(table)}: {corruptions.about(table)}"
        parts.append(_html_table(about, corruptions.texts(table)))
        parts += [f"<p>{escape(line)}</p>" for line in corruptions.lines(table)]
    reasons = run.manifest["not_reportable_because"]
    return "".join([*parts, *(f"<p>Not reportable: {escape(reason)}</p>" for reason in reasons)])


def _html_table(about: str, rows: list[list[str]]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows[1:])
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    return f"<table><caption>{escape(about)}</caption><tr>{head}</tr>{body}</table>"


def latex(run: Run) -> str:
    r"""Return the run's tables as LaTeX, for `\usepackage{booktabs}`."""
    unfit = [f"Not reportable: {reason}" for reason in run.manifest["not_reportable_because"]]
    stages = run.stages()
    attacked = [_latex_table(group, [*notes(group, stages), *_legend(group), *unfit]) for group in groups(run)]
    bounded = [_latex_bracket(one, unfit) for one in run.brackets()]
    corrupted = [_latex_corruptions(table, unfit) for table in run.corruptions()]
    paired = [
        _latex_plain(f"{pairs.title(one)}: {pairs.about(one)}.", [*beneath, *unfit], pairs.texts(one))
        for one, beneath in pairs.with_notes(run.pairs())
    ]
    return "\n".join([*attacked, *bounded, *paired, *corrupted])


def csv(run: Run) -> str:
    """Return one line per cell and budget, every field of the result, as CSV.

    `after_escalation` is what an audit left of the number: as measured, unless it was refuted. `resolution` is the
    share of the images that could fall without the audit having seen it, `wording` what to call `robust_accuracy`. The
    columns of models that may refuse an image are there where the run has one, `ignores_defense` where a number is not
    adaptive.
    Corrupted data have columns of their own, and leave those of attacks empty, as do pairs of a model and its judge.
    """
    stream = io.StringIO()
    rows: list[Mapping[str, Any]] = list(audited(run))
    rows += brackets.csv_rows(run.brackets())
    rows += pairs.csv_rows(run.pairs())
    rows += corruptions.csv_rows(run.corruptions())
    names = dict.fromkeys(name for row in rows for name in row) or ["cell"]
    writer = csv_module.DictWriter(stream, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def audited(run: Run) -> list[dict[str, Any]]:
    """Return the results as flat rows, each with what an audit left of the number and how closely that looked.

    `after_escalation` and `resolution` are None where no audit spoke.
    """
    after = {(one.cell, one.eps): told for one, *told in _audited(run)}
    found = run.results()
    return [
        {
            **one,
            **dict(zip(("after_escalation", "resolution"), after.get((result.cell, result.eps), _NONE), strict=True)),
        }
        for result, one in zip(found, plain(found), strict=True)
    ]


def plain(found: Sequence[Result]) -> list[dict[str, Any]]:
    """Return results as flat rows: what models that refuse images have is there where one of the results has it."""
    refusals = any(one.rejection is not None for one in found)
    ignored = any(one.ignores_defense for one in found)
    bounded = any(one.certified for one in found)
    rows = []
    for one in found:
        row = {**vars(one)}
        told = row.pop("rejection")
        if not ignored:
            del row["ignores_defense"]
        if not bounded:
            del row["certified"]
        more = dict.fromkeys(REJECTION_FIELDS) if told is None else dataclasses.asdict(told)
        rows.append({**row, "wording": one.wording, **(more if refusals else {})})
    return rows


_NONE = (None, None)


def _audited(run: Run) -> Iterator[tuple[Result, float, float | None]]:
    for group in groups(run):
        bounds = {one.eps: one.resolution for one in group.verdicts}
        for line in group.lines:
            told = (result for result in line.results if result.verdict is not None)
            yield from ((result, group.left(result), bounds.get(result.eps)) for result in told)


def _legend(group: Group) -> list[str]:
    return [verdicts.LEGEND] if group.verdicts else []


def _cells(group: Group) -> list[list[str]]:
    return [_line_cells(group, line, result) for line in group.shown for result in line.results]


def _line_cells(group: Group, line: Line, result: Result) -> list[str]:
    grey = words.grey(result.grey_levels) if group.norm == "linf" else words.EM_DASH
    told = verdicts.told(group, result)
    return [
        line.label, result.eps_written, grey, told.marked, told.range, *_refusal_cells(group, result),
        words.percent(result.attack_success, result.n), words.size(result.median_size), passes(line, result),
    ]  # fmt: skip


def _columns(group: Group) -> tuple[str, ...]:
    at = _COLUMNS.index("accuracy")
    more = ["strict robust accuracy"] if _shows_strict(group) else []
    more += ["TPR at 5 % FPR", "SR at 5 % FPR"] if group.knows_rates else []
    return (*_COLUMNS[:at], group.measure, _COLUMNS[at + 1], *more, *_COLUMNS[at + 2 :])


def _refusal_cells(group: Group, result: Result) -> list[str]:
    cells = [str(group.strict_left(result) or "")] if _shows_strict(group) else []
    one = result.rejection
    if one is not None and group.knows_rates:
        cells += [words.percent(share, result.n) for share in (one.tpr_at_5_fpr, one.sr_at_5_fpr)]
    return cells


def _shows_strict(group: Group) -> bool:
    return group.strict_left(group.first) is not None


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def in_markdown(text: str) -> str:
    """Return a text, whatever it holds, as Markdown and the HTML in it read text alone, in one line."""
    # every character that ends a line somewhere would end the row of a table
    escaped = re.sub(r"([\\`*_{}\[\]#|~])", r"\\\1", " ".join(text.splitlines()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _latex_table(group: Group, told: list[str]) -> str:
    about = f"{group.model} on {group.data}: {words.plural(group.n, 'image')}, {group.kind}, clean {group.clean}."
    caption = " ".join([about, *(f"{note}." for note in told)])
    body = []
    for line in group.shown:
        body += [" & ".join(map(_latex, _line_cells(group, line, result))) + r" \\" for result in line.results]
        body.append(r"\midrule")
    columns = _columns(group)
    head = " & ".join(map(_latex, columns)) + r" \\"
    return _latex_frame(caption, f"lrrrl{'r' * (len(columns) - 5)}", [head, r"\midrule", *body[:-1]])


def _latex_corruptions(table: CorruptionTable, unfit: list[str]) -> str:
    about = f"{corruptions.title(table)}: {corruptions.about(table)}."
    told = [*corruptions.lines(table), *(f"{reason}." for reason in unfit)]
    return _latex_plain(about, told, corruptions.texts(table))


def _latex_bracket(table: BracketTable, unfit: list[str]) -> str:
    about = f"{brackets.title(table)}: {brackets.about(table)}."
    return _latex_plain(about, [*brackets.lines(table), *(f"{reason}." for reason in unfit)], brackets.texts(table))


def _latex_plain(about: str, told: list[str], rows: list[list[str]]) -> str:
    head, *body = [" & ".join(map(_latex, row)) + r" \\" for row in rows]
    return _latex_frame(" ".join([about, *told]), "l" + "r" * (len(rows[0]) - 1), [head, r"\midrule", *body])


def _latex_frame(caption: str, alignment: str, body: list[str]) -> str:
    head = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(caption)}}}", rf"\begin{{tabular}}{{{alignment}}}"]
    return "\n".join([*head, r"\toprule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])

"""What other programs read of a gate: JUnit XML, SARIF 2.1.0, Markdown. Names may hold anything, and break nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from assay.evaluation.records.manifest import version_of
from assay.gate.answers import MET, MISSED, UNSURE, Answer, Finding, Outcome
from assay.wording import count, plural, short

SUMMARY_BYTES = 1024 * 1024
"""The most that a step may add to the summary of a GitHub workflow."""

_MOST_FINDINGS, _MOST_SHOWN = 20, 5
# XML 1.0 has no way to write these, not even escaped
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_MARKS = {MET: "✅", MISSED: "❌", UNSURE: "❔"}
_RULES = {
    "robust": ("ASSAY-G001", "RobustAccuracy", "Robust accuracy below its limit", "8.0"),
    "clean": ("ASSAY-G002", "CleanAccuracy", "Accuracy below its limit", "5.0"),
    "baseline": ("ASSAY-G003", "WorseThanBaseline", "Worse than the baseline", "7.0"),
    "class": ("ASSAY-G004", "ClassAccuracy", "Accuracy of a class below its limit", "6.0"),
    "verdict": ("ASSAY-G005", "Verdict", "A robust number that its audit does not bear out", "7.0"),
}
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def visible(text: str) -> str:
    """Return text in which control characters can be seen: `\\x1b`, and line breaks are blanks."""
    plain = re.sub(r"[\t\r\n]+", " ", text)
    return _UNWRITABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", plain)


def junit(outcome: Outcome, *, unsure_fails: bool = True) -> str:
    """Return JUnit XML: a test case per row; missed is a failure, cannot tell an error, or skipped if it may pass."""
    cases = [line for one in outcome.answers for line in _case(one, unsure_fails)]
    answers = [one.answer for one in outcome.answers]
    unsure = answers.count(UNSURE)
    counts = {
        "tests": len(answers), "failures": answers.count(MISSED), "errors": unsure if unsure_fails else 0,
        "skipped": 0 if unsure_fails else unsure,
    }  # fmt: skip
    told = " ".join(f'{name}="{value}"' for name, value in counts.items())
    properties = {"run": outcome.run, "finished": outcome.finished, "baseline": outcome.baseline}
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>', f'<testsuites name="assay gate" {told}>',
        f"  <testsuite name={_attribute(outcome.study)} {told}>", *_properties(properties, "    "), *cases,
        "  </testsuite>", "</testsuites>", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _case(one: Answer, unsure_fails: bool) -> Iterator[str]:
    first = one.telling[0]
    place = f"assay.{first.model}.{first.cells[0]}"
    yield f"    <testcase classname={_attribute(place)} name={_attribute(f'{one.number}: {one.row.text}')}>"
    yield from _properties({"answer": one.answer, "cells": " ".join(_cells(one)), "place": _place(one)}, "      ")
    if one.answer != MET:
        kind = "failure" if one.answer == MISSED else "error" if unsure_fails else "skipped"
        text = _attribute(f"{one.answer}: {first.line}")
        # a reader of skipped tests expects a message alone
        typed = "" if kind == "skipped" else f" type={_attribute(one.answer)}"
        yield f"      <{kind} message={text}{typed}>{_xml(chr(10).join(map(visible, _lines(one))))}</{kind}>"
    else:
        yield f"      <system-out>{_xml(chr(10).join(map(visible, _lines(one))))}</system-out>"
    yield "    </testcase>"


def _properties(told: dict[str, str], indent: str) -> Iterator[str]:
    yield f"{indent}<properties>"
    for name, value in told.items():
        yield f'{indent}  <property name="{name}" value={_attribute(value)}/>'
    yield f"{indent}</properties>"


def _attribute(text: str) -> str:
    return quoteattr(visible(text))


def _xml(text: str) -> str:
    # escaped, and in no CDATA section, which "]]>" would end
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cells(one: Answer) -> list[str]:
    return list(dict.fromkeys(cell for finding in one.telling for cell in finding.cells))


def _place(one: Answer) -> str:
    return f"{one.file}:{one.line}"


def _lines(one: Answer) -> list[str]:
    told = [finding.line for finding in one.telling[:_MOST_FINDINGS]]
    more = len(one.telling) - len(told)
    return [*told, f"and {plural(more, 'more number')}"] if more else told


def sarif(outcome: Outcome) -> str:
    """Return SARIF 2.1.0: a result per row that is not met, at the row's place in the study.

    Missed is an error, cannot tell a note. Fingerprints name the row and its cells, so that the same row is the same
    result in the next run.
    """
    results = [_result(one) for one in outcome.answers if one.answer != MET]
    rules = [
        {
            "id": identity, "name": name, "shortDescription": {"text": text}, "fullDescription": {"text": text},
            "help": {"text": "Run assay gate for the numbers, and assay report for the page of the run."},
            "defaultConfiguration": {"level": "error"},
            "properties": {"security-severity": severity, "tags": ["security", "robustness"]},
        }
        for identity, name, text, severity in _RULES.values()
    ]  # fmt: skip
    driver = {"name": "Assay", "version": version_of("assay") or "0", "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "utf16CodeUnits", "results": results}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _result(one: Answer) -> dict[str, Any]:
    identity = _RULES[one.kind][0]
    print_ = hashlib.blake2b("\n".join([one.row.text, *sorted(_cells(one))]).encode(), digest_size=16).hexdigest()
    text = f"{one.row.text}: {one.answer}. " + "\n".join(map(visible, _lines(one)))
    region = {"startLine": max(1, one.line)}
    # a path is a URI reference here: blanks and percent signs are escaped
    artifact = {"uri": quote(one.file.replace("\\", "/"), errors="replace")}
    return {
        "ruleId": identity, "ruleIndex": list(_RULES).index(one.kind),
        "level": "error" if one.answer == MISSED else "note", "message": {"text": _sarif(text)},
        "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": region}}],
        "partialFingerprints": {"assayGateRow/v1": print_},
        "properties": {"answer": one.answer, "cells": _cells(one)},
    }  # fmt: skip


def _sarif(text: str) -> str:
    # a message reads [text](place) as a link, and {0} as an argument
    escaped = re.sub(r"([\\\[\]])", r"\\\1", text)
    return escaped.replace("{", "{{").replace("}", "}}")


def markdown(outcome: Outcome, most_bytes: int = SUMMARY_BYTES) -> str:
    """Return the answers as Markdown, of at most `most_bytes` in UTF-8."""
    answers = [one.answer for one in outcome.answers]
    told = ", ".join(f"{answers.count(name)} {name}" for name in (MET, MISSED, UNSURE) if name in answers)
    head = [
        f"## Assay gate: {_MARKS[outcome.answer]} {outcome.answer}", "",
        f"{markdown_text(outcome.study)}, {markdown_text(outcome.run)}: {told}.", "",
        "| row | answer | numbers |", "| --- | --- | --- |",
    ]  # fmt: skip
    foot = [f"- {markdown_text(note)}" for note in outcome.notes]
    foot += [f"- Differs from the baseline: {markdown_text(one)}" for one in outcome.differs]
    rows = []
    room = most_bytes - len("\n".join([*head, "", *foot, ""]).encode()) - 200
    for one in sorted(outcome.answers, key=lambda one: (MISSED, UNSURE, MET).index(one.answer)):
        numbers = "<br>".join(markdown_text(line) for line in _lines(one))
        row = f"| {one.number}: {markdown_text(one.row.text)} | {_MARKS[one.answer]} {one.answer} | {numbers} |"
        room -= len(row.encode()) + 1
        if room < 0:
            break
        rows.append(row)
    left = len(outcome.answers) - len(rows)
    cut = [f"| {plural(left, 'more row')} | | left out: the summary would be too long |"] if left else []
    text = "\n".join([*head, *rows, *cut, "", *foot, ""])
    # what stands above and below the table may be too long by itself
    return text if len(text.encode()) <= most_bytes else _fitting(f"{head[0]}\n", most_bytes)


def _fitting(text: str, most_bytes: int) -> str:
    return text if len(text.encode()) <= most_bytes else ""


def markdown_text(text: str) -> str:
    """Return text that Markdown, a table of it, and the HTML in it read as text alone."""
    escaped = re.sub(r"([\\`*_{}\[\]()#|~!$@])", r"\\\1", visible(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def lines(outcome: Outcome) -> Iterator[str]:
    """Yield the answers for a terminal: a line per row, and below it the numbers that decide."""
    for one in outcome.answers:
        yield f"{one.answer.upper():12}{visible(one.row.text)}"
        shown: tuple[Finding, ...] = one.telling[:_MOST_SHOWN]
        for finding in shown:
            yield f"            {visible(finding.line)}"
        if len(one.telling) > len(shown):
            yield f"            and {count(len(one.telling) - len(shown))} more"
    for note in outcome.notes:
        yield f"Note        {visible(note)}"
    if outcome.differs:
        yield f"Differs     from {short(outcome.baseline)}: {visible('; '.join(outcome.differs))}"


__all__ = ["SUMMARY_BYTES", "junit", "lines", "markdown", "markdown_text", "sarif", "visible"]

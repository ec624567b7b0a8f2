"""Evidence for assessors: one report as Markdown and JSON; what was measured, how, on what, and what stays open."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.evaluation.records.verdicts import REFUTED
from assay.exports import clauses
from assay.exports.clauses import CLAUSES
from assay.exports.facts import Facts, kept
from assay.files import write_atomically
from assay.report.formats import in_markdown
from assay.report.groups import NOT_ADAPTIVE, WORST_CASE
from assay.wording import EM_DASH, ONE_ATTACK, interval, percent

if TYPE_CHECKING:
    from pathlib import Path

STATEMENT = (
    "This report says what was measured. It is not a statement of conformity with any law or standard, and nobody but "
    "the persons who sign it answers for its use."
)
NO_ANSWER = "no number of this run"
_SIGNATURES = ("name", "role", "organisation", "date", "signature")

_CAN_SHOW = {
    clauses.ROBUST: "An attack that breaks an image proves that the image can be broken inside the budget: what "
    "attacks leave is an upper bound of the accuracy under the best attack, on these images.",
    clauses.VERDICTS: "A verdict says whether stronger attempts and checks of the attack itself threw doubt on a "
    "number, and how large a share of the images could fall without the audit having seen it (resolution).",
    clauses.CERTIFIED: "A certificate proves, in the grade and with the confidence that it states, that no change "
    "inside the budget makes a right answer wrong: a lower bound.",
    clauses.CORRUPTED: "Accuracy on corrupted images is an average over common corruptions, not a worst case.",
}
_CANNOT_SHOW = (
    "That an image which no attack broke cannot be broken: only certificates prove that.",
    "Anything about changes of other kinds or sizes than those named, about other images, or about other weights.",
    "Poisoned training data, backdoors, theft of the model or of its data, or anything else beside wrong answers to "
    "changed images.",
    "What the system around the model does with its answers.",
)


def write_evidence(facts: Facts, target: Path) -> list[str]:
    """Write evidence.md and evidence.json into the folder `target`; signature and date are left empty."""
    plain = report(facts)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(target / "evidence.json", f"{text}\n".encode())
    write_atomically(target / "evidence.md", "\n".join(_markdown(plain, facts)).encode())
    return [str(target / name) for name in ("evidence.md", "evidence.json")]


def report(facts: Facts) -> dict[str, Any]:
    """Return the report as plain values; `numbers` is what `assay show --json` prints."""
    manifest, held = facts.manifest, held_by(facts)
    return {
        "title": f"Robustness of {', '.join(manifest['models'])}",
        "statement": STATEMENT,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "reservations": facts.reservations,
        "system": {name: _without_classes(one) for name, one in manifest["models"].items()},
        "software": manifest["environment"],
        "method": {
            "study": facts.run.study,
            "command": manifest["command"],
            "started": manifest["started"],
            "finished": manifest["finished"],
            "cells": manifest["cells"],
            "can_show": [text for what, text in _CAN_SHOW.items() if what in held],
            "cannot_show": list(_CANNOT_SHOW),
        },
        "data": {name: _without_classes(one) for name, one in manifest["data"].items()},
        "numbers": facts.shown,
        "worst_case": facts.worst,
        "limits": [*facts.reservations, *map(str, manifest["warnings"] or ())],
        "clauses": [
            {
                "text": one.text, "date": one.date, "clause": one.clause, "about": one.about,
                "answered_by": [answer for what, answer in one.answers.items() if what in held], "open": one.open,
            }
            for one in CLAUSES
        ],
        "signatures": dict.fromkeys(_SIGNATURES, ""),
    }  # fmt: skip


def held_by(facts: Facts) -> set[str]:
    """Return what of the answers in `clauses` a run holds."""
    rows, shown = facts.rows, facts.shown
    # an attack on another model says nothing about this one's defence, and noise is no attacker
    own = [
        row
        for row in rows
        if row["eps"] > 0 and row["robust_accuracy"] is not None
        if not row.get("ignores_defense") and _family(row["attack"]) != "baseline"
    ]
    transferred = [row for row in own if "surrogate=" in row["attack"]]
    asked = [
        row
        for row in own
        if row not in transferred and (row["access"] != "gradient" or _family(row["attack"]) in ("score", "label"))
    ]
    found = {
        clauses.CLEAN: any(row["clean_accuracy"] is not None for row in rows),
        clauses.ROBUST: bool(own),
        clauses.VERDICTS: bool(shown.get("verdicts")),
        clauses.CERTIFIED: any(table["certificates"] for table in shown.get("brackets", ())),
        clauses.CORRUPTED: bool(shown.get("corruptions")),
        clauses.BLACK_BOX: bool(asked),
        clauses.WHITE_BOX: any(row["access"] == "gradient" and _climbs(row["attack"]) for row in own),
        clauses.TRANSFERRED: bool(transferred),
        clauses.PATCH: any(row["threat"].split()[0] == "patch" for row in own),
        clauses.RECORDS: True,
    }
    return {what for what, there in found.items() if there}


def _family(attack: str) -> str:
    from assay.attacks import ATTACKS

    entry = ATTACKS.get(attack.partition("(")[0])
    return "" if entry is None else entry.family


def _climbs(attack: str) -> bool:
    """Say whether an attack, by its label, climbs gradients of the model itself."""
    from assay.attacks import ATTACKS
    from assay.core.oracle import Access

    entry = ATTACKS.get(attack.partition("(")[0])
    return entry is not None and entry.access is Access.GRADIENT and "surrogate=" not in attack


def _without_classes(about: Mapping[str, Any]) -> dict[str, Any]:
    classes = about.get("classes")
    counted = {} if classes is None else {"classes": len(classes)}
    return {**{name: one for name, one in about.items() if name != "classes" and one is not None}, **counted}


def _markdown(plain: Mapping[str, Any], facts: Facts) -> Iterator[str]:
    yield from (f"# {in_markdown(plain['title'])}", "", f"**{STATEMENT}**", "", f"Written {plain['written']}.", "")
    for reason in plain["reservations"]:
        yield from (f"**Not to be reported:** {in_markdown(reason)}", "")
    yield from ("## System", "")
    for name, about in plain["system"].items():
        yield from _facts(f"Model {name}", about)
    yield from _facts("Software and machine", plain["software"])
    yield from _method(plain["method"])
    yield from ("## Data", "")
    for name, about in plain["data"].items():
        yield from _facts(f"Data {name}", about)
    yield from _results(facts)
    yield from ("## Limits", "")
    yield from (
        f"- {in_markdown(text)}" for text in plain["limits"] or ("Nothing was left out of the study as planned.",)
    )
    yield from ("", "## What texts ask, and what answers it", "")
    yield "A number answers a part of a clause; it meets none by itself. Texts are named with their date or release."
    yield ""
    titles = ("text", "date or release", "clause", "about", "answered in part by", "stays open")
    yield from _table(titles, [_clause(one) for one in plain["clauses"]])
    yield from ("", "## Signatures", "", "| | |", "|---|---|")
    yield from (f"| {name.capitalize()} | |" for name in plain["signatures"])
    yield ""


def _clause(one: Mapping[str, Any]) -> tuple[str, ...]:
    answers = "; ".join(one["answered_by"]) or NO_ANSWER
    return one["text"], one["date"], one["clause"], one["about"], answers, one["open"]


def _method(method: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Method", "")
    yield from _facts("Study", {name: method[name] for name in ("study", "command", "started", "finished")})
    rows = [
        (
            digest, str(one.get("model")), str(one.get("data")), str(one.get("attack") or one.get("certificate")),
            str(one.get("threat")), ", ".join(map(str, one.get("eps", ()))), str(one.get("question", EM_DASH)),
            str(one.get("goal", EM_DASH)), str(one.get("seed", EM_DASH)),
        )
        for digest, one in method["cells"].items()
    ]  # fmt: skip
    yield from _table(
        ("cell", "model", "data", "attack or certificate", "threat", "budgets", "question", "goal", "seed"), rows
    )
    yield from ("", "What it can show:", "")
    yield from (f"- {text}" for text in method["can_show"])
    yield from ("", "What it cannot show:", "")
    yield from (f"- {text}" for text in method["cannot_show"])
    yield ""


def _results(facts: Facts) -> Iterator[str]:
    yield from ("## Results", "")
    titles = (
        "model", "data", "attack", "threat", "budget", "images", "accuracy without attack", "accuracy left",
        "95 % interval", "what it is", "verdict",
    )  # fmt: skip
    yield from _table(titles, [_result(row) for row in (*facts.rows, *facts.worst)])
    yield ""
    for one in facts.shown.get("verdicts", ()):
        told = f"{one['model']} on {one['data']}, {one['threat']} {one['eps']}: {one['verdict']}. {one['why']}"
        yield from (f"- {in_markdown(told)}",)
    for table in facts.shown.get("brackets", ()):
        yield from ("", in_markdown(f"Certified: {table['model']} on {table['data']}, {table['threat']}"), "")
        by = ", ".join(table["certificates"])
        rows = [(str(one["eps"]), str(one["n"]), percent(one["certified_accuracy"], one["n"]),
                 percent(one["certified_low"], one["n"]), percent(one["robust_accuracy"], one["n"]), by)
                for one in table["brackets"]]  # fmt: skip
        yield from _table(("budget", "images", "certified", "at least (95 %)", "left by attacks", "certificate"), rows)
    for table in facts.shown.get("corruptions", ()):
        yield from ("", in_markdown(f"Corrupted: {table['model']} on {table['data']}, {table['measure']}"), "")
        looked = [
            (str(one["corruption"] or "none"), str(one["severity"]), str(one["n"]), percent(one["accuracy"], one["n"]),
             interval(one["low"], one["high"], one["n"]))
            for one in table["results"]
        ]  # fmt: skip
        yield from _table(("corruption", "severity", "images", "accuracy", "95 % interval"), looked)
    yield from ("", "Every number with all its digits, and those of pairs and endpoints, stand in evidence.json.", "")


def _result(row: dict[str, Any]) -> tuple[str, ...]:
    n, refuted = row["n"], row["verdict"] == REFUTED
    meant = row["wording"] if row["question"] == WORST_CASE or row["access"] != "gradient" else ONE_ATTACK
    meant = NOT_ADAPTIVE if row.get("ignores_defense") else meant
    first = f" ({percent(row['robust_accuracy'], n)} as first measured)" if refuted else ""
    return (
        row["model"], row["data"], row["attack"], row["threat"], row["eps_written"], str(n),
        percent(row["clean_accuracy"], n), percent(kept(row), n) + first,
        EM_DASH if refuted else interval(row["robust_low"], row["robust_high"], n), meant,
        row["verdict"] or "not audited",
    )  # fmt: skip


def _facts(title: str, about: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {in_markdown(title)}", "")
    yield from _table(("", ""), [(name.replace("_", " "), _spoken(one)) for name, one in about.items()])
    yield ""


def _spoken(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    yield from (f"| {' | '.join(map(in_markdown, row))} |" for row in rows)

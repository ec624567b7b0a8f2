"""Model cards: a README.md whose front matter holds the numbers as the Hugging Face hub's `model-index`.

The front matter is YAML as YAML 1.1 and 1.2 both read it: every text quoted, every number with its point. The keys are
those of the hub's model card specification (https://github.com/huggingface/hub-docs/blob/main/modelcard.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput
from assay.evaluation.records.verdicts import REFUTED
from assay.exports.facts import Facts, kept
from assay.files import write_atomically
from assay.report.formats import NOT_AUDITED, in_markdown
from assay.report.gallery import slug
from assay.report.groups import NOT_ADAPTIVE, WORST_CASE
from assay.statistics import CONFIDENCE
from assay.wording import EM_DASH, ONE_ATTACK, interval, percent, plural

if TYPE_CHECKING:
    from pathlib import Path

_TASK = "image-classification"
# what YAML does not take as it is, even between quotes
_UNPRINTABLE = re.compile("[\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff\u2028\u2029\x85]")
_ARGS = (
    "attack", "threat", "eps", "eps_written", "unit", "grey_levels", "question", "goal", "seed", "n", "robust_low",
    "robust_high", "access", "queries_limit", "wording", "cell", "verdict", "after_escalation", "resolution",
)  # fmt: skip


def write_model_card(facts: Facts, target: Path) -> list[str]:
    """Write README.md into the folder `target`; of a run of several models one in a folder for each.

    Nothing is sent anywhere. Raises `BadInput` for a run in which nothing was attacked.
    """
    models = list(dict.fromkeys(row["model"] for row in facts.rows))
    if not models:
        raise BadInput(
            f"{facts.run.path} has no number of an attack, and a model card holds those. --to json and --to evidence "
            "hold corruptions and certificates."
        )
    written = []
    for number, model in enumerate(models, start=1):
        folder = target if len(models) == 1 else target / f"{number}-{slug(model, 60)}"
        write_atomically(folder / "README.md", _card(facts, model).encode())
        written.append(str(folder / "README.md"))
    return written


def _card(facts: Facts, model: str) -> str:
    rows = [row for row in (*facts.rows, *facts.worst) if row["model"] == model]
    head = {
        "pipeline_tag": _TASK,
        "tags": [_TASK, "adversarial-robustness"],
        "model-index": [{"name": model, "results": list(_results(facts, rows))}],
    }
    return "\n".join(["---", *_yaml(head), "---", "", *_text(facts, model, rows), ""])


def _results(facts: Facts, rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    # who reads the front matter alone must see it there
    told = {"reportable": facts.shown["reportable"]}
    for data in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == data]
        about = facts.manifest["data"].get(data, {})
        metrics = [
            metric for metric in (_clean(mine[0]), *(_robust(row, told) for row in mine)) if metric["value"] is not None
        ]
        if metrics:
            args = {name: about[name] for name in ("n", "fingerprint", "ids_digest") if about.get(name) is not None}
            yield {
                "task": {"type": _TASK, "name": "Image classification"},
                "dataset": {"type": data, "name": data, "args": args},
                "metrics": metrics,
            }


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
    args = {"n": row["n"], "low": row["clean_low"], "high": row["clean_high"], "confidence": CONFIDENCE}
    return {"type": "accuracy", "value": row["clean_accuracy"], "name": "Accuracy", "args": _known(args)}


def _robust(row: dict[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    args = {**{name: row[name] for name in _ARGS}, "verdict": row["verdict"] or NOT_AUDITED, **told}
    if row["verdict"] == REFUTED:
        # the interval is that of the number as first measured, which the escalation refuted
        args = {**args, "robust_low": None, "robust_high": None, "as_first_measured": row["robust_accuracy"]}
    name = f"{_called(row)} ({row['attack']}, {row['threat']} {row['eps_written']})"
    kind = "robust_accuracy" if row["question"] == WORST_CASE else "accuracy_under_attack"
    kind = kind if row["access"] == "gradient" else "not_broken_within_queries"
    kind = "not_broken_not_adaptive" if row.get("ignores_defense") else kind
    return {"type": kind, "value": kept(row), "name": name, "args": _known({**args, "confidence": CONFIDENCE})}


def _called(row: Mapping[str, Any]) -> str:
    if row.get("ignores_defense"):
        return f"Not broken, {NOT_ADAPTIVE}"
    called = str(row["wording"]).capitalize()
    if row["access"] == "gradient" and row["question"] != WORST_CASE:
        return f"Accuracy under attack, {ONE_ATTACK}"
    return called


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _text(facts: Facts, model: str, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"# Robustness of {in_markdown(model)}"
    yield ""
    for reason in facts.reservations:
        yield f"**Not to be reported:** {in_markdown(reason)}"
        yield ""
    titles = (
        "data",
        "images",
        "attack",
        "threat",
        "budget",
        "what is measured",
        "accuracy",
        "95 % interval",
        "verdict",
    )
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        refuted = row["verdict"] == REFUTED
        first = f" ({percent(row['robust_accuracy'], row['n'])} as first measured)" if refuted else ""
        cells = (
            row["data"], str(row["n"]), row["attack"], row["threat"], row["eps_written"], _called(row),
            percent(kept(row), row["n"]) + first,
            EM_DASH if refuted else interval(row["robust_low"], row["robust_high"], row["n"]),
            row["verdict"] or NOT_AUDITED,
        )  # fmt: skip
        yield f"| {' | '.join(in_markdown(str(cell)) for cell in cells)} |"
    yield ""
    images = plural(max((row["n"] for row in rows), default=0), "image")
    yield (
        "Accuracy is the share of the images that were right and that the attack did not break inside the budget: an "
        f"upper bound of the accuracy under the best attack, on these {images}. Budgets are in units of the pixel "
        "range [0, 1] unless they say otherwise. Measured with Assay "
        f"{in_markdown(str(facts.manifest['environment'].get('assay')))}, "
        f"{in_markdown(str(facts.manifest['finished'] or 'not finished'))}."
    )


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Write plain values as YAML blocks."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _entry(f"{indent}{name}:", one, f"{indent}  ")
    else:
        for one in value:
            lines = list(_yaml(one, f"{indent}  ")) if _nested(one) else [f"{indent}  {_scalar(one)}"]
            yield f"{indent}- {lines[0].lstrip(' ')}"
            yield from lines[1:]


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if _nested(value):
        yield head
        yield from _yaml(value, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _nested(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple)) and bool(value)


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        written = repr(value)
        mantissa, e, exponent = written.partition("e")
        # YAML 1.1 takes 1e-05 for a text
        return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else written
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)

"""The reference page of the defences, written from the table: `docs/defenses.md`."""

from __future__ import annotations

from collections.abc import Iterator

from assay.core.oracle import LookPasses
from assay.defenses import Defense
from assay.defenses.chain import passes_at_defaults
from assay.defenses.table import CERTIFIABLE, DETECTORS, TRANSFORMATIONS
from assay.report.attack_page import docstring, options_table, row

_OPENING = """# Defences

What `assay defenses` lists: what can stand around a network, and be measured there. A chain is written behind a model,
`--model 'zoo:mnist-cnn|median:size=2|jpeg:quality=75'`, in YAML and in Python (`assay.load_model`) alike, or with
`assay.defend(model, "jpeg:quality=75")`; an image meets its parts from the left. `assay defenses NAME` prints the
options of one.

Forwards each is what was published. An attack goes through all of it: where what is computed has no useful gradient,
another one stands in for it backwards. What draws numbers draws others in each look: give an attack `eot=30` to climb
the mean of 30. Passes are those of the network in one look; attacks are billed for them.
"""

_ABOUT = {
    "Transformations": "They change the image, or the way the network answers; they refuse nothing.",
    "Detectors": (
        "They refuse images that look attacked: those whose score is above a threshold. `assay defend fit "
        "'MODEL|CHAIN' --data TRAINING`, or `assay.fit_defense(model, chain, data)`, learns what a chain needs on "
        "training images, from its innermost part outwards, and chooses the thresholds on held-out clean ones: the "
        "k-th smallest of n scores, k = n (1 - fpr) rounded up. They are frozen, and a part of the model's digest. "
        "What is fitted lies where the chain's spec finds it, or in `--out`."
    ),
    "Certifiable": (
        "They answer from many changed copies of an image, so that something can be proved of the answer (see "
        "[smoothing](smoothing.md)). A certificate speaks of a chain whose first part is one of them."
    ),
}


def defense_page() -> str:
    """Return the page as Markdown."""
    parts = [_OPENING]
    tables = {"Transformations": TRANSFORMATIONS, "Detectors": DETECTORS, "Certifiable": CERTIFIABLE}
    for title, table in tables.items():
        rows = [row("defence", "what it does", "passes", "random", "fitted", "backwards", "source"), row(*["---"] * 7)]
        rows += [_line(name, entry) for name, entry in table.items()]
        parts += [f"## {title}\n", _ABOUT[title] + "\n", "\n".join(rows) + "\n"]
        parts += [_section(name, entry) for name, entry in table.items()]
    return "\n".join(parts)


def passes_text(passes: LookPasses) -> str:
    """Return the passes of one look in words, such as `30 + 30` forwards and backwards."""
    told = f"{passes.with_gradient} + {passes.backwards + passes.always}"
    return told if passes.climbing is None else f"{passes.forwards:,}; with a gradient {told}"


def _line(name: str, entry: Defense) -> str:
    source = f"[{entry.paper}](https://arxiv.org/abs/{entry.paper_id})" if entry.paper_id else entry.paper
    told = ["yes" if one else "" for one in (entry.random, entry.fitted)]
    return row(
        f"[`{name}`](#{name})", entry.summary, passes_text(passes_at_defaults(entry)), *told, entry.backward, source
    )


def _section(name: str, entry: Defense) -> str:
    return f"### {name}\n\n{docstring(entry.make)}\n\n" + "\n".join(_facts(name, entry)) + "\n"


def _facts(name: str, entry: Defense) -> Iterator[str]:
    if entry.channels:
        yield f"For images of {' or '.join(map(str, entry.channels))} channels.\n"
    if entry.adaptive:
        yield f"Attacks that know it: {', '.join(f'`{attack}`' for attack in entry.adaptive)}.\n"
    if entry.all_options:
        yield from options_table(entry.all_options)
    else:
        yield "No options."

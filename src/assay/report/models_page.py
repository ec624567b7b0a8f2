"""The reference page of the kinds of models, written from the tables: `docs/models.md`."""

from __future__ import annotations

from assay.models.kinds import KINDS, install
from assay.models.load import PYTHON, SCHEMES

_OPENING = """# Kinds of models

What can stand behind `--model`, in a study, and in `assay.load_model`. `assay models` lists the names; this page is
written from the same tables. Each kind says the most that it gives, and every attack the least that it needs
([attacks](attacks.md)): one that needs more is refused when a run is planned, with those that fit. A command that names
no attack takes one that fits: `pgd` where there are gradients, `square` for scores, `hop-skip-jump` for labels.
"""

_BLACK_BOXES = """## Scores or labels alone

A model that can only be asked is a black box. What attacks leave of it is called by what was measured: **not broken
within 300 queries**, never robust accuracy, in tables, charts, on the page, in CSV and in JSON (`access`,
`queries_limit`, `wording`). An attack with gradients may leave far less. 300 is the number of queries that the attack
may spend on an image at a budget; of several attacks, the most.

Its number is never *trusted* by itself ([why, and what helps](trust.md#black-boxes)). With a white-box twin, the
network that the deployed file was made of, it can be: attack the twin and let the deployed model judge, in one run.

```sh
assay run --model litert:net.tflite --data folder:pictures --eps 4/255 \\
    --attack square:queries=1000 --attack pgd:surrogate=keras:net.keras
```

`assay doctor` asks such a model whether its scores have all of their digits and classes, whether changes below a grey
level reach it, whether it repeats itself alone and in a batch, and whether a twin is one. An endpoint, which may bill
each row, is asked about 32 rows at most.
"""


def models_page() -> str:
    """Return the page as Markdown."""
    rows = ["| name | what it is | gives | extra | digest over | cannot be had |", f"|{' --- |' * 6}"]
    for scheme, kind in KINDS.items():
        form = PYTHON.form if scheme == "python" else SCHEMES[scheme].form
        names = " or ".join(f"`{one}`" for one in form.split(" or "))
        extra = f"`{kind.extra}`" if kind.extra else ""
        rows.append(f"| {names} | {kind.what} | {kind.gives} | {extra} | {kind.digest} | {kind.lacks} |")
    extras = [kind.extra for kind in KINDS.values() if kind.extra]
    told = ", ".join(f"`{install(one)}`" for one in dict.fromkeys(extras))
    return "\n".join([_OPENING, *rows, "", f"Extras are installed by name: {told}.", "", _options(), _BLACK_BOXES])


def _options() -> str:
    rows = ["## Options of a name", "", "Behind a `?`, joined by `&`: `onnx:net.onnx?size=224&mean=0.5`.", ""]
    rows += ["| kind | about images | of its own |", "| --- | --- | --- |"]
    for scheme in KINDS:
        found = PYTHON if scheme == "python" else SCHEMES[scheme]
        shared = sorted(found.options & PYTHON.options)
        own = sorted((found.options | found.settings) - PYTHON.options)
        about = "all" if set(shared) == set(PYTHON.options) else ", ".join(f"`{one}`" for one in shared)
        rows.append(f"| `{scheme}` | {about} | {', '.join(f'`{one}`' for one in own)} |")
    images = ", ".join(f"`{one}`" for one in sorted(PYTHON.options))
    return "\n".join([*rows, "", f"Those about images: {images} ([what they mean](your-model-your-data.md)).", ""])

"""The same attack as words for a shell and for Python: both give the array that the page shows."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.playground.asked import Prepared

ADDRESS, RUN = "@address@", "@run@"
"""What the server puts its own words for: where the image can be downloaded, and the name of the run."""


def shell(asked: Prepared) -> str:
    """Return the commands; the image comes from the playground, as long as it runs."""
    ask = asked.ask
    options = ",".join(f"{name}={_written(value)}" for name, value in asked.options.items())
    words = [
        "assay", "run", "--model", ask.model, "--data", "npz:image.npz", "--norm", ask.norm, "--eps", ask.eps,
        "--attack", f"{ask.attack}:{options}" if options else ask.attack, "--question", asked.question.value,
        "--seed", str(ask.seed), "--audit", "off", "--certify", "off", "--no-doctor", "--out", f"runs/play-{RUN}",
    ]  # fmt: skip
    words += [] if ask.goal is None else ["--goal", f"targeted {ask.goal}"]
    words += ["--allow-pickle"] if ask.allow_pickle else []
    export = ["assay", "export", "images", f"runs/play-{RUN}", "--out", f"runs/play-{RUN}-images"]
    export += ["--as", "npy", "--only", "all", *(["--allow-pickle"] if ask.allow_pickle else [])]
    # threads change the order of sums, and with it last digits
    return "\n".join((ADDRESS, f"OMP_NUM_THREADS=1 {shlex.join(words)}", f"OMP_NUM_THREADS=1 {shlex.join(export)}"))


def python(asked: Prepared) -> str:
    """Return the lines of Python; `x_adv` is the array."""
    ask = asked.ask
    options = "".join(f", {name}={value!r}" for name, value in asked.options.items())
    pickle = ", allow_pickle=True" if ask.allow_pickle else ""
    threat = {"linf": "Linf", "l2": "L2", "l1": "L1", "l0": "L0"}[ask.norm]
    goal = "" if ask.goal is None else f", goal={_goal(ask.goal, asked)}"
    settings = f"ids=list(data.ids), seed={ask.seed}{goal}"
    given = "x, y"
    if asked.by_size:
        call = (
            f"(found,) = assay.sweep(method, model, {given}, [assay.{threat}({ask.eps!r})], "
            f"question={asked.question.value!r}, {settings})"
        )
    else:
        keep = "last" if asked.question.value == "as_attacked" else "first"
        call = f"found = assay.attack(method, model, {given}, assay.{threat}({ask.eps!r}), keep={keep!r}, {settings})"
    return "\n".join((
        "# image.npz comes from the playground: the first line of the same in the shell fetches it",
        "import torch",
        "",
        "import assay",
        "from assay.attacks import build",
        "",
        "torch.set_num_threads(1)",
        f"model = assay.load_model({ask.model!r}{pickle})",
        'data = assay.load_data("npz:image.npz", model=model)',
        "(sample,) = data.load([0])",
        "x, y = sample.image[None], torch.tensor([sample.label])",
        f"method = build({ask.attack!r}{options})",
        call,
        "x_adv = found.x_adv[0]",
    ))  # fmt: skip


def _goal(target: int, asked: Prepared) -> str:
    reject = ", reject=-1" if asked.model.rejects else ""
    return f"assay.Targeted(y, torch.tensor([{target}]){reject})"


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

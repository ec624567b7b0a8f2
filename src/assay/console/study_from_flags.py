"""From flags to a study: the plain values a study file would hold, and where each was given."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.console.flags import StudyFlags
from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.evaluation.study.errors import Places
    from assay.evaluation.study.spec import Study

LOCK = "study.lock.yaml"
_PLACE_IS_A_FLAG = re.compile(r"^(--(?!set)[a-z-]+)  [^:\s]+: ", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class StudyRequest:
    """What a command line asks for: the study, and the run directory it has by default."""

    study: Study
    directory: Path
    chosen: bool
    """Whether the directory was named by the user."""


def read_study(flags: StudyFlags, out: Path | None = None) -> StudyRequest:
    """Return the study that a file, flags or both describe, and where it runs: in `out`, if given.

    A study made of flags is called after its directory, so that adding an attack to the command adds to that run.

    Raises `BadInput` naming the place in the file, or the flag, of every slip.
    """
    from assay.evaluation.study.spec import Study
    from assay.evaluation.study.yaml_source import override

    raw, places, directory = _written(flags, out)
    raw, places = _lay_over(raw, places, flags)
    try:
        study = Study.of(*override(raw, places, flags.set or ()))
    except BadInput as error:
        raise BadInput(_PLACE_IS_A_FLAG.sub(r"\1: ", str(error))) from None
    return StudyRequest(study, out or directory or Path("runs") / study.study, bool(out or flags.study))


def _written(flags: StudyFlags, out: Path | None) -> tuple[dict[str, Any], Places, Path | None]:
    from assay.evaluation.study.errors import Places
    from assay.evaluation.study.yaml_source import read_yaml

    if flags.study is None:
        _require(flags)
        return {"study": _short(out.resolve().name) if out else _slug(flags)}, Places(), None
    path = Path(flags.study).expanduser()
    directory = path if (path / LOCK).is_file() else None
    file = path / LOCK if directory else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(_unreadable(flags.study, error)) from error
    raw, places = read_yaml(text, file.name)
    return dict(raw), places, directory


def _unreadable(given: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        model = f" Did you mean --model {given}?" if ":" in given or ("/" not in given and "." not in given) else ""
        return f"There is no study {given!r}.{model} Give a YAML file, or --model, --data, --attack and --eps."
    if isinstance(error, IsADirectoryError):
        return f"{given} is a folder without a {LOCK}; expected a study file, or the directory of a run."
    return f"The study {given} could not be read: {error}."


_NEEDED = {
    "model": "--model torchvision:resnet50",
    "data": "--data mnist/test",
    "attack": "--attack pgd",
    "eps": "--eps 4/255",
}


def _require(flags: StudyFlags) -> None:
    # corruptions may go without an attack
    spared = {"attack", "eps"} if flags.corruptions and not (flags.attack or flags.eps) else set()
    # as certificates may
    spared |= {"attack"} if flags.certify and not set(flags.certify) <= {"first", "auto", "off"} else set()
    missing = [name for name in _NEEDED if name not in spared and not getattr(flags, name)]
    if len(missing) == len(_NEEDED):
        raise BadInput(f"Nothing to run. Give a study file, or flags such as {' '.join(_NEEDED.values())}.")
    if missing:
        raise BadInput("\n".join(f"--{name} is missing. Write for example {_NEEDED[name]}." for name in missing))


def _lay_over(raw: dict[str, Any], places: Places, flags: StudyFlags) -> tuple[dict[str, Any], Places]:
    from assay.evaluation.study.errors import Places

    values, keys = dict(places.values), dict(places.keys)

    def at(path: tuple[str | int, ...], flag: str) -> None:
        for known in [known for known in values if known[: len(path)] == path]:
            del values[known]
        values[path] = keys[path] = flag

    for key, (flag, value) in _whole(flags).items():
        raw[key] = value
        at((key,), flag)
        raw = _without_in_grids(raw, key)
    for where, holder in _holders(raw, flags):
        _change_inside(where, holder, flags, at)
    return raw, Places(values, keys, places.file)


def _whole(flags: StudyFlags) -> dict[str, tuple[str, Any]]:
    """Return the keys that a flag sets as a whole, each with the flag's name and its value."""
    from assay.evaluation.study.attacks import parse_attack

    given = {
        "models": ("--model", flags.model),
        "data": ("--data", flags.data),
        "attacks": ("--attack", [parse_attack(text) for text in flags.attack or ()]),
        "question": ("--question", flags.question and flags.question.value),
        "goal": ("--goal", flags.goal),
        "order": ("--order", flags.order and flags.order.value),
        "seed": ("--seed", flags.seed),
        "certify": ("--certify", flags.certify),
        "judge": ("--judge", flags.judge),
        "audit": ("--audit", flags.audit and flags.audit.value),
        "corruptions": ("--corruptions", _corruptions(flags)),
    }
    return {key: (flag, value) for key, (flag, value) in given.items() if value not in (None, [])}


def _corruptions(flags: StudyFlags) -> dict[str, str] | None:
    given = {"kinds": flags.corruptions, "severities": flags.severities}
    return {key: value for key, value in given.items() if value is not None} or None


def _without_in_grids(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    grids = raw.get("grids")
    if not isinstance(grids, list):
        return dict(raw)
    return {**raw, "grids": [{k: v for k, v in g.items() if k != key} if isinstance(g, Mapping) else g for g in grids]}


def _holders(raw: dict[str, Any], flags: StudyFlags) -> Iterable[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Yield the mappings that hold a grid's keys, with their path: the whole file, and each of its grids."""
    grids = raw.get("grids")
    yield (), raw
    for i, grid in enumerate(grids if isinstance(grids, list) else ()):
        if isinstance(grid, dict):
            yield ("grids", i), grid


def _change_inside(where: tuple[str | int, ...], holder: dict[str, Any], flags: StudyFlags, at: Any) -> None:
    """Lay the flags that change a part of models, data or threats over the parts that are there."""
    inside = {
        "models": ({"outputs": ("--outputs", flags.outputs and flags.outputs.value)}, "model"),
        "judge": ({"outputs": ("--judge-outputs", flags.judge_outputs and flags.judge_outputs.value)}, "model"),
        "data": (_selection(flags), "source"),
        "threats": (_threat(flags), ""),
    }
    for key, (changes, short) in inside.items():
        given = {name: pair for name, pair in changes.items() if pair[1] is not None}
        if not given or (key not in holder and not (key == "threats" and not where and "grids" not in holder)):
            continue
        entries = holder.get(key, [{"norm": "linf"}])
        entries = entries if isinstance(entries, list) else [entries]
        changed = [_changed({short: one} if isinstance(one, str) and short else one, given) for one in entries]
        # there is one judge, and no list of them
        alone = key == "judge"
        holder[key] = changed[0] if alone else changed
        for i, _ in enumerate(entries):
            for name, (flag, _) in given.items():
                at((*where, key, *(() if alone else (i,)), name), flag)


def _changed(entry: Any, given: Mapping[str, tuple[str, Any]]) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    return {**entry, **{name: value for name, (_, value) in given.items()}}


def _selection(flags: StudyFlags) -> dict[str, tuple[str, Any]]:
    return {
        "limit": ("--limit", flags.limit),
        "sample": ("--sample", flags.sample),
        "per_class": ("--per-class", flags.per_class),
        "labels": ("--labels", flags.labels and flags.labels.value),
        "ids": ("--sample-id", flags.sample_id or None),
    }


def _threat(flags: StudyFlags) -> dict[str, tuple[str, Any]]:
    return {
        "norm": ("--norm", flags.norm and flags.norm.value),
        "eps": ("--eps", parse_budgets(flags.eps) if flags.eps else None),
        "box": ("--no-box", flags.box),
        "grid": ("--grid", flags.grid),
        "mask": ("--mask", flags.mask),
        "channels": ("--channels", _numbers(flags.channels)),
        "components": ("--components", _numbers(flags.components)),
    }


def _numbers(text: str | None) -> list[Any] | None:
    from assay.attacks.options import scalar

    return None if text is None else [scalar(part.strip()) for part in text.split(",")]


def parse_budgets(given: Iterable[str]) -> list[str]:
    """Split budgets at commas; a unit in front (`normalized 0.01,0.02`) holds for the whole list."""
    budgets = []
    for text in given:
        unit, space, rest = text.strip().partition(" ")
        prefix = f"{unit} " if space and unit.isalpha() else ""
        budgets += [prefix + part.strip() for part in (rest if prefix else text).split(",") if part.strip()]
    return budgets


def _slug(flags: StudyFlags) -> str:
    beside = ["corruptions"] if flags.corruptions and not flags.attack else []
    beside += [one for one in flags.certify or () if not flags.attack]
    from assay.models.spec import without_limits

    # a run whose endpoint may be asked more goes on in the same directory
    models = map(without_limits, flags.model or ())
    parts = [*models, *(flags.data or ()), *(flags.attack or ()), *beside]
    return "-".join(filter(None, map(_short, parts)))[:100].strip("-.") or "run"


def _short(spec: str) -> str:
    """Return the part of a spec that tells it from others, in letters a folder may have."""
    scheme, colon, rest = spec.partition("?")[0].rstrip("/").partition(":")
    if colon and scheme.endswith(".py"):
        spec = f"{Path(scheme).stem}-{rest}"
    elif colon and scheme in ("folder", "file", "imagenet", "imagenet-c", "table", "csv", "npz", "hdf5"):
        spec = Path(rest).stem or scheme
    elif colon and scheme in ("torchvision", "timm", "zoo"):
        spec = rest.partition("@")[0]
    return re.sub(r"[^A-Za-z0-9._]+", "-", spec).strip("-.")

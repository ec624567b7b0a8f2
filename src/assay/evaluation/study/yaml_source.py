"""Studies as YAML 1.2: every value remembers its line and column, and budgets stay as written."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node, ScalarNode, SequenceNode

from assay.core.errors import BadInput
from assay.evaluation.study.errors import Path, Places, spoken

if TYPE_CHECKING:
    from assay.evaluation.study.spec import Study

# more than any study holds; a file whose aliases multiply would otherwise fill the memory
_MOST_NODES = 100_000

_SHORT_FORMS = {"models": "model", "data": "source", "attacks": "attack"}


def load_study(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Study:
    """Read a study file, with `overrides` such as `threats[0].eps=[4/255]` laid over it.

    Raises `BadInput` naming line and column for bad YAML, duplicate keys, and everything a study does not allow.
    """
    # the YAML alone is read without the table of attacks, and without torch
    from assay.evaluation.study.spec import Study

    file = File(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The study {path} could not be read: {error}") from error
    raw, places = read_yaml(text, file.name)
    return Study.of(*override(raw, places, overrides))


def read_yaml(text: str, name: str) -> tuple[Any, Places]:
    """Return the plain values of a YAML text and where each was written.

    Numbers in a list of budgets (`eps`) stay text, so that `0.10` is recorded as it was written.
    """
    try:
        root = YAML(typ="rt", pure=True).compose(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise BadInput(f"{place}  This is not YAML: {error.problem or error.context}.") from error
    except YAMLError as error:
        raise BadInput(f"{name}: This is not YAML: {error}.") from error
    except RecursionError:
        raise BadInput(f"{name} is nested too deep to be a study.") from None
    if root is None:
        raise BadInput(f"{name} is empty. A study needs: study, models, data, threats, attacks.")
    values: dict[Path, str] = {}
    keys: dict[Path, str] = {}
    places = Places(values, keys, name)
    plain = _plain(root, (), places, values, keys)
    if not isinstance(plain, Mapping):
        raise BadInput(f"{name} holds {plain!r}. A study is a mapping: study, models, data, threats, attacks.")
    return plain, places


def _plain(node: Node, path: Path, places: Places, values: dict[Path, str], keys: dict[Path, str]) -> Any:
    values[path] = place = f"{places.file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    if len(values) > _MOST_NODES or len(path) > 30:
        raise BadInput(f"{place}  The file is nested too deep or repeats itself too often to be a study.")
    if isinstance(node, SequenceNode):
        return [_plain(item, (*path, i), places, values, keys) for i, item in enumerate(node.value)]
    if isinstance(node, ScalarNode):
        return _scalar(node, path, place)
    plain: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        here = f"{places.file}:{key_node.start_mark.line + 1}:{key_node.start_mark.column + 1}"
        if key in plain:
            raise BadInput(f"{here}  The key {key!r} is given twice (first at {keys[(*path, key)]}). Leave one out.")
        keys[(*path, key)] = here
        plain[key] = _plain(value_node, (*path, key), places, values, keys)
    return plain


def _scalar(node: ScalarNode, path: Path, place: str) -> Any:
    text = str(node.value)
    kind = str(node.tag).rpartition(":")[2]
    match kind:
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" | "float":
            return text if "eps" in path and re.match(r"^[+-]?[\d.]", text) and "n" not in text else _number(text, kind)
    raise BadInput(f"{place}  Values of kind {node.tag} are not read from a study. Write text, numbers or true/false.")


def _number(text: str, kind: str) -> int | float:
    text = text.replace("_", "").lower()
    if kind == "int":
        return int(text, 0) if re.match(r"^[+-]?0[ox]", text) else int(text)
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def override(raw: Mapping[str, Any], places: Places, overrides: Sequence[str]) -> tuple[dict[str, Any], Places]:
    """Return `raw` with each `path.to.key=value` laid over it; values are read as YAML.

    Lists are reached by number (`attacks[1].steps=20`, `attacks.1.steps=20`); a lone value or a short form such as
    `data: mnist/test` is opened up where the path goes inside it.
    """
    result = _copied(raw)
    values, keys = dict(places.values), dict(places.keys)
    for text in overrides:
        place = f"--set {text}:"
        dotted, equals, written = text.partition("=")
        path = tuple(int(part) if part.isdigit() else part for part in re.split(r"[.\[\]]+", dotted.strip("]")) if part)
        if not equals or not path:
            raise BadInput(f"--set takes path.to.key=value, such as 'attacks[0].steps=20'; got {text!r}.")
        # read below its path, so that budgets stay as written here too
        value, _ = read_yaml(f"eps: {written}" if "eps" in path else f"value: {written}", place.rstrip(":"))
        _put(result, path, next(iter(value.values())), place)
        values = {known: at for known, at in values.items() if known[: len(path)] != path}
        values[path] = keys[path] = place
    return result, Places(values, keys, places.file)


def _put(whole: dict[str, Any], path: Path, value: Any, place: str) -> None:
    here: Any = whole
    for at, part in enumerate(path[:-1]):
        inside = here[part] if _has(here, part) else None
        short = _SHORT_FORMS.get(str(path[at - 1] if isinstance(part, int) else part))
        following = path[at + 1]
        if isinstance(following, int) and not isinstance(inside, list):
            inside = [] if inside is None else [inside]
        elif isinstance(following, str) and isinstance(inside, str) and short:
            inside = {short: inside}
        elif isinstance(following, str) and isinstance(inside, list) and len(inside) == 1:
            here_ = spoken(path[: at + 1])
            raise BadInput(f"{place} {here_} is a list; write {here_}[0].{following}=...")
        elif inside is None:
            inside = {}
        _set(here, part, inside, place, path[: at + 1])
        here = here[part]
    _set(here, path[-1], value, place, path)


def _has(here: Any, part: str | int) -> bool:
    return (part in here) if isinstance(here, Mapping) else isinstance(part, int) and part < len(here)


def _set(here: Any, part: str | int, value: Any, place: str, path: Path) -> None:
    if isinstance(here, dict) and isinstance(part, str):
        here[part] = value
    elif isinstance(here, list) and isinstance(part, int) and part <= len(here):
        here[part : part + 1] = [value]
    elif isinstance(here, list):
        raise BadInput(f"{place} {spoken(path[:-1])} has {len(here)} entries, from 0; {part!r} is none of them.")
    else:
        raise BadInput(f"{place} {spoken(path[:-1])} is {here!r}, which has nothing inside it to set.")


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copied(inside) for key, inside in value.items()}
    return [_copied(inside) for inside in value] if isinstance(value, (list, tuple)) else value


def write_yaml(plain: Mapping[str, Any]) -> str:
    """Return plain values as YAML text."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None  # short lists on one line
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    out = io.StringIO()
    yaml.dump(dict(plain), out)
    return out.getvalue()

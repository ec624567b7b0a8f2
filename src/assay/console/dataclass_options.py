"""Options of a command as one frozen dataclass, where Typer wants one parameter each."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from assay.console.output import data_alone


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with every dataclass parameter replaced by that dataclass's fields, for Typer to read.

    The command is called with the dataclasses filled in again.
    """
    hints = get_type_hints(command, include_extras=True)
    grouped: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in grouped:
            parameters += _fields_as_parameters(grouped[parameter.name])
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(kind=kind, annotation=hints[parameter.name]))

    @functools.wraps(command)
    def call(**given: Any) -> None:
        whole = {
            name: kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
            for name, kind in grouped.items()
        }
        with data_alone():
            command(**given, **whole)

    for parameter in parameters:
        for about in getattr(parameter.annotation, "__metadata__", ()):
            # the names follow one rule, which the front page tells: no need to repeat it forty times
            about.show_envvar = False
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect.signature
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _fields_as_parameters(kind: type) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    empty = inspect.Parameter.empty
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]

"""The budgets that the page offers: where its sliders begin and end, by norm and kind of model."""
# shape: the server and its workers offer the same, and only workers import torch

from __future__ import annotations

from collections.abc import Mapping

NORMS = ("linf", "l2", "l1", "l0")

_BUDGETS: Mapping[str, Mapping[str, str]] = {
    "digits": {"linf": "0.3", "l2": "2.0", "l1": "20", "l0": "25"},
    "picture": {"linf": "4/255", "l2": "1.0", "l1": "100", "l0": "100"},
}
_MOST = {
    "digits": {"linf": "0.5", "l2": "8", "l1": "100", "l0": "200"},
    "picture": {"linf": "64/255", "l2": "20", "l1": "2000", "l0": "2000"},
}
_LEAST = {"linf": "0.5/255", "l2": "0.05", "l1": "0.5", "l0": "1"}
_UNITS = {"linf": "1/255", "l2": "1", "l1": "1", "l0": "values"}


def budgets(kind: str) -> dict[str, dict[str, str]]:
    """Return the ends of the sliders and where they begin, by norm, for a kind of model."""
    like = "digits" if kind == "digits" else "picture"
    return {
        norm: {
            "least": _LEAST[norm], "most": _MOST[like][norm], "default": _BUDGETS[like][norm], "unit": _UNITS[norm],
        }
        for norm in NORMS
    }  # fmt: skip

"""A chain of defences as it is written, `median:size=2|squeeze-detector:fpr=0.05`, and as it is built.

An image meets the defences from left to right; the network stands behind the last one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from assay.attacks.options import read_options
from assay.core.errors import BadInput
from assay.core.oracle import LookPasses
from assay.defenses.entry import Defense
from assay.defenses.fitted import Fitted, read_fitted
from assay.defenses.layers import Rejecting, Transformed, adopt
from assay.defenses.table import defense

SEPARATOR = "|"


@dataclasses.dataclass(frozen=True)
class Step:
    """One defence of a chain: its name and its options, those that differ from the defaults."""

    name: str
    options: Mapping[str, Any]

    @property
    def entry(self) -> Defense:
        """Its line in the table."""
        return defense(self.name)

    @property
    def own(self) -> dict[str, Any]:
        """The options that make it what it is, without where a fit lies."""
        return {option: value for option, value in self.options.items() if option != "file"}

    @property
    def settings(self) -> dict[str, Any]:
        """All options, with their defaults."""
        known = self.entry.all_options
        return {option: self.options.get(option, one.default) for option, one in known.items()}

    @property
    def needs_fit(self) -> bool:
        """Whether it can only be used with what a fit has found."""
        return self.entry.fitted or (self.entry.detects and self.options.get("threshold") is None)

    def written(self, *, file: bool = True) -> str:
        """Return the step as a spec writes it."""
        options = self.options if file else self.own
        told = ",".join(f"{option}={_text(value)}" for option, value in options.items())
        return f"{self.name}:{told}" if told else self.name


def written_chain(steps: Sequence[Step], *, file: bool = True) -> str:
    """Return a chain as a spec writes it."""
    return SEPARATOR.join(step.written(file=file) for step in steps)


def split_spec(spec: str) -> tuple[str, tuple[Step, ...]]:
    """Return the part of a model's spec that names the network, and the chain behind it.

    Raises `BadInput` for an unknown defence, option or value.
    """
    name, bar, rest = spec.partition(SEPARATOR)
    return name.strip(), parse_chain(rest) if bar else ()


def parse_chain(written: str) -> tuple[Step, ...]:
    """Return the steps of a chain. Raises `BadInput` for an unknown defence, option or value."""
    return tuple(_parse(part) for part in written.split(SEPARATOR))


def _parse(written: str) -> Step:
    name, _, rest = written.strip().partition(":")
    entry = defense(name)
    known = entry.all_options
    try:
        values = read_options(rest, known, written.strip())
    except BadInput as error:
        raise BadInput(f"{error}; write for example median:size=2.") from None
    for option, value in values.items():
        entry.read(name, option, value)
    # equal steps are written equally
    ordered = {key: values[key] for key in known if key in values and values[key] != known[key].default}
    return Step(name, ordered)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def build(steps: Sequence[Step], network: nn.Module, fitted: Fitted | None = None) -> nn.Module:
    """Return `network` behind the steps, the first outermost; a step that needs a fit takes its part of `fitted`.

    Raises `BadInput` where such a part is missing or does not fit.
    """
    module = network
    for at in reversed(range(len(steps))):
        module = build_step(steps[at], at, module, fitted)
    return module


def build_step(step: Step, at: int, inner: nn.Module, fitted: Fitted | None) -> nn.Module:
    """Return `inner` behind step number `at` of a chain."""
    made = unfitted(step, inner)
    if step.needs_fit:
        if fitted is None:
            raise BadInput(f"{step.written()} must be fitted first: assay defend fit.")
        part = made.step if isinstance(made, Transformed) else made
        try:
            adopt(part, fitted.state(at))
        except (KeyError, RuntimeError) as error:
            raise BadInput(f"{step.written()} does not fit what was fitted for it: {error}") from error
    if not step.entry.detects:
        return made
    threshold, scale = step.options.get("threshold"), 1.0
    if threshold is None:
        assert fitted is not None, "a threshold that nobody gives is fitted"
        threshold, scale = fitted.thresholds[at].value, fitted.thresholds[at].scale
    return Rejecting(made, inner, float(threshold), scale)


def unfitted(step: Step, inner: nn.Module) -> nn.Module:
    """Return what a step makes, before a fit: a detector alone, everything else in front of `inner`."""
    entry = step.entry
    own = {option: entry.read(step.name, option, value) for option, value in step.options.items()}
    own = {option: value for option, value in own.items() if option in entry.options}
    if entry.around:
        return entry.make(inner, **own)
    made = entry.make(**own)
    return made if entry.detects else Transformed(made, inner)


def passes_of(steps: Sequence[Step], shape: tuple[int, ...] | None = None) -> LookPasses:
    """Return the passes of the network in one look through a chain, at images of `shape` (C, H, W) if that is known."""
    total = LookPasses()
    for step in steps:
        total = step.entry.passes({**step.settings, "shape": shape}).inside(total)
    return total


def passes_at_defaults(entry: Defense) -> LookPasses:
    """Return the passes of the network in one look at a photograph through a defence with its default options."""
    defaults: dict[str, Any] = {option: one.default for option, one in entry.all_options.items()}
    return entry.passes({**defaults, "shape": (3, 224, 224)})


def random_chain(steps: Sequence[Step]) -> bool:
    """Whether a chain draws numbers."""
    return any(step.entry.random for step in steps)


def detects(steps: Sequence[Step]) -> bool:
    """Whether a chain refuses images."""
    return any(step.entry.detects or step.entry.rejects for step in steps)


def fitted_for(steps: Sequence[Step], network: str, usual: Path) -> Fitted | None:
    """Return what was fitted for a chain around the network of digest `network`; None where nothing has to be.

    `usual` is the file where a fit lies that no option names. Raises `BadInput` where there is none, or one for another
    network or chain.
    """
    if not any(step.needs_fit for step in steps):
        return None
    named = {str(step.options["file"]) for step in steps if step.options.get("file")}
    if len(named) > 1:
        raise BadInput(f"One chain has one file of what was fitted, and {' and '.join(sorted(named))} are given.")
    path = next(iter(named), usual)
    return read_fitted(path, written_chain(steps, file=False), network, named=bool(named))

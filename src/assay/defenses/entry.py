"""What a line of the table of defences says."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from torch import nn

from assay.attacks.options import Option, options_of_maker
from assay.core.errors import BadInput, did_you_mean
from assay.core.oracle import LookPasses
from assay.defenses.layers import FromStatistics, FromTraining


def _stored(
    *,
    file: Annotated[str | None, Option("What `assay defend fit` found; without it, where that puts it.")] = None,
) -> None: ...


def _frozen(
    *,
    fpr: Annotated[
        float,
        Option("The share of clean images that may be refused.", "share", least=0, most=1, above=True, below=True),
    ] = 0.05,
    threshold: Annotated[
        float | None, Option("The score above which an image is refused; without it, what a fit found.", least=-1e30)
    ] = None,
    file: Annotated[str | None, Option("What `assay defend fit` found; without it, where that puts it.")] = None,
) -> None: ...


@dataclasses.dataclass(frozen=True)
class Defense:
    """A line of the table.

    `make(**options)` returns a step, a module from images to images, or a detector (`defenses.layers.Detector`); where
    `around` is true it takes what is inside as its first argument and returns a whole layer (with `signals` if what is
    inside has them). Its annotated arguments are the options. `passes(options)` are those of the network inside in one
    look. `random`: it draws numbers, from `core.draws.current`. `differentiable`: gradients are those of what is
    computed; otherwise `backward` says what stands in for them. `detects`: it refuses images. `adaptive` are the
    attacks, as a study writes them, that know this defence. `rejects`: its answer may be a refusal, though it is no
    detector with a threshold. `channels` and `least_side` say what images it takes. `outermost`: it must see the image
    itself, and what is inside answers with classes alone and draws no numbers.
    """

    make: Callable[..., nn.Module]
    summary: str
    paper: str
    paper_id: str = ""
    passes: Callable[[Mapping[str, Any]], LookPasses] = lambda options: LookPasses()
    random: bool = False
    differentiable: bool = True
    backward: str = "exact"
    detects: bool = False
    around: bool = False
    adaptive: tuple[str, ...] = ()
    rejects: bool = False
    channels: tuple[int, ...] = ()
    least_side: int = 1
    outermost: bool = False
    version: int = 1

    @functools.cached_property
    def options(self) -> Mapping[str, Option]:
        """The defence's own options, which `make` takes."""
        return options_of_maker(self.make)

    @functools.cached_property
    def general(self) -> Mapping[str, Option]:
        """The options of every detector, and of everything that is fitted."""
        if self.detects:
            return options_of_maker(_frozen)
        return options_of_maker(_stored) if self.fitted else {}

    @functools.cached_property
    def all_options(self) -> Mapping[str, Option]:
        """Own and general options, in the order in which they are written."""
        return {**self.options, **self.general}

    @functools.cached_property
    def fitted(self) -> bool:
        """Whether it has to learn something from training images, besides a threshold."""
        made = self.make if isinstance(self.make, type) else None
        return made is not None and issubclass(made, (FromStatistics, FromTraining))

    def read(self, name: str, option: str, value: Any) -> Any:
        """Return a written value as `make` takes it. Raises `BadInput` for an unknown option or value."""
        known = self.all_options
        if option not in known:
            near = did_you_mean(option, known)
            has = f"Its options: {', '.join(known)}." if known else "It has none."
            raise BadInput(f"Defence {name!r} has no option {option!r}.{near} {has}")
        return known[option].read(f"Defence {name!r}: {option}", value)

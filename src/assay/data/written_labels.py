"""A folder of pictures as the user wrote it, with the options that say how its files are to be read."""

from __future__ import annotations

import dataclasses

from assay.core.errors import BadInput, did_you_mean

READING = frozenset({"white", "orientation"})
ORIENTATIONS = ("stored", "apply")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files become pictures: `white` is the value that stands for white, None for the largest the file can hold.

    `upright` turns a picture as its EXIF orientation says.
    """

    white: float | None = None
    upright: bool = False

    @property
    def words(self) -> str:
        """Return what is unlike the usual reading, "" for the usual one."""
        return f"{'' if self.white is None else f'white {self.white:g} '}{'upright' if self.upright else ''}".strip()


@dataclasses.dataclass(frozen=True)
class Written:
    """The name of a data set and the options behind it."""

    name: str
    options: dict[str, str] = dataclasses.field(default_factory=dict)

    def advise(self, option: str, value: str) -> str:
        """Return what to write instead, to have this option beside those that are there."""
        options = {**self.options, option: value}
        return f"{self.name}?{'&'.join(f'{key}={one}' for key, one in options.items())}"

    def reading(self) -> Reading:
        """Return how the options say files are read. Raises `BadInput` for values that they cannot have."""
        orientation = self.options.get("orientation", "stored")
        if orientation not in ORIENTATIONS:
            near = did_you_mean(orientation, ORIENTATIONS)
            raise BadInput(f"orientation is {orientation!r}; expected stored or apply.{near}")
        written = self.options.get("white")
        return Reading(None if written is None else _white(written), orientation == "apply")


def _white(written: str) -> float:
    try:
        value = float(written)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise BadInput(
            f"white is {written!r}; expected the value that stands for white in the files, such as 4095 for 12 bits."
        )
    return value

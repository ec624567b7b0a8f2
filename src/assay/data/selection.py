"""Which samples of a data set to take: some by name, an even share of every class, a held-out part, or the first."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

from assay.core.errors import BadInput, did_you_mean
from assay.data.dataset import Labels

PARTS = ("held-out", "rest")


@dataclasses.dataclass(frozen=True)
class Selection:
    """What to take: `ids` by name; `sample` in total or `per_class`, drawn under `seed`; their `part`; then `limit`.

    Draws are nested: a larger `sample` or `per_class` contains the smaller one of the same seed. `part` is `held-out
    N`: N samples drawn evenly over the classes, or `rest N`, all others: what is trained on one is tested on the other.
    """

    limit: int | None = None
    sample: int | None = None
    per_class: int | None = None
    ids: tuple[str, ...] | None = None
    seed: int = 0
    part: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers below 1 and two draws at once."""
        for name in ("limit", "sample", "per_class"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name} is {value}; expected a whole number of at least 1.")
        if self.sample is not None and self.per_class is not None:
            raise BadInput(f"sample {self.sample} and per_class {self.per_class} are two ways to draw; give one.")
        if self.part is not None and not re.fullmatch(r"(held-out|rest) [1-9]\d*", self.part):
            near = did_you_mean(self.part.split(" ")[0], PARTS)
            raise BadInput(f"part is {self.part!r}; expected 'held-out N' or 'rest N', such as 'held-out 500'.{near}")


def select(ids: Sequence[str], labels: Labels, selection: Selection) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the positions that are taken, in the order of the data (or of `ids`), and notes for the user.

    Labels are asked for only where samples are drawn by class.
    """
    positions = list(range(len(ids))) if selection.ids is None else _named(ids, selection.ids)
    notes: list[str] = []
    if selection.per_class is not None or selection.sample is not None:
        ranked = _ranked(ids, labels, positions, selection.seed)
        if selection.per_class is not None:
            positions = [at for members in ranked.values() for at in members[: selection.per_class]]
            notes += _small_classes(ranked, selection.per_class)
        else:
            positions = _evenly(ranked, selection)
        positions.sort()
    whole = len(positions)
    if selection.part is not None:
        positions = _part(ids, labels, positions, selection)
    if selection.sample is not None and whole < selection.sample:
        notes.append(f"sample {selection.sample} was asked for; there are {whole}, and all were taken.")
    if selection.limit is not None and selection.limit < len(positions):
        notes += _missing_classes(labels, positions, selection.limit)
        positions = positions[: selection.limit]
    return tuple(positions), tuple(notes)


def _missing_classes(labels: Labels, positions: Sequence[int], limit: int) -> list[str]:
    # to learn them all would mean to read every sample where they are not known beforehand
    if not isinstance(labels, Sequence):
        return []
    before, after = (len({labels[at] for at in some}) for some in (positions, positions[:limit]))
    if after == before:
        return []
    return [f"limit {limit} takes the first samples: {after} of {before} classes. `sample` draws from all of them."]


def _part(ids: Sequence[str], labels: Labels, positions: list[int], selection: Selection) -> list[int]:
    kind, _, written = (selection.part or "").partition(" ")
    count = int(written)
    if count >= len(positions):
        raise BadInput(
            f"part {selection.part!r} of {len(positions)} samples leaves none for the other part. Use a smaller number."
        )
    ranked = _ranked(ids, labels, positions, selection.seed)
    held_out = set(_evenly(ranked, dataclasses.replace(selection, sample=count, per_class=None)))
    return [at for at in positions if (at in held_out) == (kind == "held-out")]


def _named(ids: Sequence[str], wanted: tuple[str, ...]) -> list[int]:
    at = {name: position for position, name in enumerate(ids)}
    for name in wanted:
        if name not in at:
            raise BadInput(f"There is no sample {name!r}.{did_you_mean(name, ids)} Ids look like {ids[0]!r}.")
    if len(set(wanted)) < len(wanted):
        twice = next(name for name in wanted if wanted.count(name) > 1)
        raise BadInput(f"Sample {twice!r} is named twice in ids; name it once.")
    return [at[name] for name in wanted]


def _hash(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\x1f{name}".encode(), digest_size=8).digest(), "big")


def _ranked(ids: Sequence[str], labels: Labels, positions: Sequence[int], seed: int) -> dict[int, list[int]]:
    """Return each class's positions in an order drawn by hashing (seed, id): it depends on nothing else."""
    members: dict[int, list[int]] = defaultdict(list)
    for at in positions:
        members[labels[at]].append(at)
    return {label: sorted(members[label], key=lambda at: (_hash(seed, ids[at]), at)) for label in sorted(members)}


def _evenly(ranked: dict[int, list[int]], selection: Selection) -> list[int]:
    """Take `sample` positions so that every class gives its share, to within one sample.

    Rank r of a class of n members gets the place (r + u) / n, with one u in [0, 1) per class, and the first places
    are taken.
    """
    places = []
    for label, members in ranked.items():
        shift = _hash(selection.seed, f"class {label}") / 2**64
        places += [((rank + shift) / len(members), label, at) for rank, at in enumerate(members)]
    return [at for _, _, at in sorted(places)[: selection.sample]]


def _small_classes(ranked: dict[int, list[int]], wanted: int) -> list[str]:
    small = {label: len(members) for label, members in ranked.items() if len(members) < wanted}
    if not small:
        return []
    label, count = next(iter(small.items()))
    return [f"{len(small)} classes have fewer than {wanted} samples (class {label}: {count}); all were taken."]

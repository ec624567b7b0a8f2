"""Which tensors of a file are the weights of a network: the same names, with or without a prefix on either side."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from assay.core.errors import BadInput

# what torch.compile, FSDP and activation checkpointing put into the names of the modules they wrap
_WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_COUNTER = "num_batches_tracked"

State = Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Found:
    """The tensors of a file: those at the usual place in it, and all of them, nested keys joined by dots."""

    usual: State
    everything: State
    what: str


@dataclasses.dataclass(frozen=True)
class Matched:
    """Tensors under a network's own names, how names were changed for it, and, where none fit, what came nearest."""

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    nearest: str = ""


@dataclasses.dataclass(frozen=True)
class _Group:
    """The tensors whose names begin with `prefix`, under the network's names; `fits` counts those it has.

    `whole`: all of the network's are there, and no others. `added` is the prefix of the network that the file lacks.
    """

    prefix: str
    state: dict[str, Tensor]
    fits: int
    whole: bool
    added: str = ""


def flattened(value: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors in nested dicts, named by their keys with dots between them."""
    for key, inner in value.items():
        if isinstance(inner, Tensor):
            yield f"{prefix}{key}", inner
        elif isinstance(inner, Mapping):
            yield from flattened(inner, f"{prefix}{key}.")


def matched(found: Found, own: State, prefix: str | None) -> Matched:
    """Return the tensors that are the weights of the network whose state dict is `own`.

    Names that fit as they are stay. Otherwise the names below one prefix are taken, where all of the network's are
    there in the right shapes; `prefix` says which. What fits nowhere comes back as it is, for `fill` to say why.
    Raises `BadInput` where several prefixes fit with other tensors, where what fits is the smaller part of the file,
    and where no name has the `prefix` given.
    """
    if prefix is None and _is_whole(found.usual, own):
        return Matched(dict(found.usual), _beside(found, own, found.usual))
    groups = _groups(found.everything if prefix is not None else found.usual, own)
    if prefix is not None:
        groups = _asked_for(groups, prefix, found.what)
    elif not any(group.whole for group in groups):
        groups = _groups(found.everything, own)
    whole = [group for group in groups if group.whole]
    if not whole:
        return Matched(dict(found.usual), nearest=_nearest(groups, len(own)))
    chosen = whole[0]
    others = [group.prefix for group in whole[1:] if not _equal(group.state, chosen.state)]
    if others:
        raise BadInput(
            f"{found.what} holds {1 + len(others)} sets of weights that fit. {_say([chosen.prefix, *others])}"
        )
    if prefix is None:
        _refuse_small_part(chosen, found)
    return Matched(chosen.state, (*_how(chosen, found), *_beside(found, own, chosen.state)))


def _is_whole(state: State, own: State) -> bool:
    # batch counters came late to BatchNorm; older files lack them, and evaluation does not read them
    needed = {name for name in own if not name.endswith(_COUNTER)}
    return needed <= state.keys() <= own.keys() and all(state[name].shape == own[name].shape for name in state)


def _groups(tensors: State, own: State) -> list[_Group]:
    """Return the tensors below every prefix that occurs, those first that are whole, then those that fit best."""
    real = {_plain(name): name for name in own}
    below: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        parts = _plain(name).split(".")
        for depth in range(len(parts)):
            below["".join(f"{part}." for part in parts[:depth])][".".join(parts[depth:])] = value
    groups = [_group(prefix, state, real, own) for prefix, state in below.items()]
    added = _common_prefix(real)
    for prefix, state in below.items():
        # other tensors beside these would make it likely that a part is taken for the whole
        if added and len(state) == len(tensors):
            groups.append(_group(prefix, {added + name: value for name, value in state.items()}, real, own, added))
    return sorted(groups, key=lambda group: (-group.whole, -group.fits, len(group.added), len(group.prefix)))


def _group(prefix: str, state: State, real: Mapping[str, str], own: State, added: str = "") -> _Group:
    named = {real.get(name, name): value for name, value in state.items()}
    fits = sum(name in own and own[name].shape == value.shape for name, value in named.items())
    return _Group(prefix, named, fits, _is_whole(named, own), added)


def _plain(name: str) -> str:
    return _WRAPPERS.sub("", name)


def _common_prefix(names: Mapping[str, Any]) -> str:
    """Return the modules, each with its dot, that stand before every name but its last part."""
    common: list[str] = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "".join(f"{part}." for part in common)


def _asked_for(groups: list[_Group], prefix: str, what: str) -> list[_Group]:
    wanted = prefix.rstrip(".") + "."
    found = [group for group in groups if group.prefix.startswith(wanted)]
    if not found:
        first = sorted({group.prefix.split(".")[0] for group in groups if group.prefix})
        raise BadInput(f"No name in {what} begins with {wanted!r}; expected one of: {', '.join(first[:5]) or 'none'}.")
    return found


def _refuse_small_part(chosen: _Group, found: Found) -> None:
    used = sum(value.numel() for value in chosen.state.values())
    whole = sum(value.numel() for value in found.usual.values())
    if 2 * used < whole:
        raise BadInput(
            f"The {len(chosen.state)} tensors below {chosen.prefix!r} in {found.what} fit the architecture, but "
            f"{100 * (1 - used / whole):.0f} % of its numbers lie elsewhere. If they are the weights, say so: "
            f"&prefix={chosen.prefix.rstrip('.')}. If not, name the architecture of the whole."
        )


def _equal(one: State, other: State) -> bool:
    return all(one[name].equal(other[name]) for name in one if name in other)


def _how(chosen: _Group, found: Found) -> tuple[str, ...]:
    notes = []
    if chosen.prefix:
        notes.append(f"The names in the file begin with {chosen.prefix!r}, which was left out to fit the architecture.")
    if any(_plain(name) != name for name in found.everything):
        notes.append("The file was saved from a wrapped network (torch.compile, FSDP); the wrapper was left out.")
    if chosen.added:
        notes.append(f"The architecture's names begin with {chosen.added!r}, which the file lacks and which was added.")
    left = [name for name in found.usual if not _plain(name).startswith(chosen.prefix)]
    if left and len(left) < len(found.usual):
        shown = ", ".join(sorted({name.split(".")[0] for name in left})[:3])
        notes.append(f"{len(left)} tensors of the file are not part of the architecture and were left out: {shown}.")
    return tuple(notes)


def _beside(found: Found, own: State, taken: State) -> tuple[str, ...]:
    """Return a note where the file holds other weights that fit too, such as averaged ones."""
    if len(found.everything) < 2 * len(taken):
        return ()
    groups = [group for group in _groups(found.everything, own) if group.whole]
    others = [group.prefix for group in groups if not _equal(group.state, taken)]
    return (f"The file holds other weights that fit, too. {_say(others)}",) if others else ()


def _say(prefixes: list[str]) -> str:
    return f"Say which are meant: {' or '.join(f'&prefix={one.rstrip(chr(46))}' for one in prefixes)}."


def _nearest(groups: list[_Group], count: int) -> str:
    best = next((group for group in groups if group.fits), None)
    if best is None or not (best.prefix or best.added):
        return ""
    where = f"Without the prefix {best.prefix!r}" if best.prefix else f"With {best.added!r} before every name"
    return f" {where}, {best.fits} of the architecture's {count} tensors would fit."

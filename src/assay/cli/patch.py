"""`assay patch`: train, evaluate, apply to picture files, print on paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.patch_evaluate import evaluate
from assay.cli.patch_flags import place
from assay.cli.patch_train import train
from assay.console.dataclass_options import expanded
from assay.console.output import write
from assay.console.places import Force, free_name, refuse_taken
from assay.core.errors import BadInput


def apply(
    patch: Annotated[Path, typer.Argument(help="A patch: a file of `assay patch train`.")],
    pictures: Annotated[list[Path], typer.Argument(help="Picture files; they are left as they are.")],
    at: Annotated[str | None, typer.Option(help="The place X,Y of the top left corner (random).")] = None,
    out: Annotated[Path, typer.Option(help="The directory to write to.")] = Path("runs/patched"),
    seed: Annotated[int, typer.Option(help="The seed of random places.")] = 0,
) -> None:
    """Paste a patch into pictures, pixel for pixel at their own size, and write them as PNG."""
    import torch

    from assay.attacks.patch import Room, paste
    from assay.core.draws import Draws
    from assay.files import write_atomically
    from assay.patches import Patch
    from assay.patches.pictures import from_pixels, png_bytes, read_picture

    loaded, where = Patch.load(patch), place(at)
    height, width = loaded.mask.shape
    written: set[Path] = set()
    for path in pictures:
        image = read_picture(path.expanduser(), len(loaded.pixels))[None]
        try:
            room = Room(height, width, image.shape[2], image.shape[3], at=where)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
        places = room.random(Draws.of([path.name], seed), "place")
        pasted = paste(image, loaded.pixels, loaded.mask, places)
        row, column = (int(value) for value in places[0])
        content = png_bytes(from_pixels(torch.clamp(pasted[0], 0, 1)))
        # pictures of one name from several folders, in this call or an earlier one, are numbered
        target = free_name(out / f"{path.stem}-patched.png", content, written)
        written.add(target)
        write_atomically(target, content)
        write(f"{target}  (at {column},{row})")


def sheet(
    patch: Annotated[Path, typer.Argument(help="A patch: a file of `assay patch train`.")],
    width: Annotated[float, typer.Option(help="Its width on paper, in centimetres.")] = 10.0,
    copies: Annotated[int, typer.Option(help="How many on the page.")] = 1,
    out: Annotated[Path | None, typer.Option(help="The PDF (beside the patch).", show_default=False)] = None,
    force: Force = False,
) -> None:
    """Write a page of A4 (PDF) with the patch at a physical size, to be printed."""
    from assay.patches import Patch
    from assay.patches.sheet import write_sheet

    target = out or patch.with_suffix(".pdf")
    refuse_taken(target, force=force)
    write_sheet(Patch.load(patch), target, width, copies)
    write(str(target))


app = typer.Typer(name="patch", help="Train, measure, paste and print adversarial patches.", no_args_is_help=True)

_COMMANDS: dict[str, Callable[..., None]] = {"train": train, "evaluate": evaluate, "apply": apply, "sheet": sheet}
for _name, _command in _COMMANDS.items():
    app.command(_name, context_settings={"auto_envvar_prefix": "ASSAY_PATCH"})(expanded(_command))

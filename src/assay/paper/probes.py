"""What gradient attacks can see of the MNIST networks: the evidence beside Table XIV, one file per network."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

PROBED = ("mnist-cnn", "mnist-distilled-t100", "mnist-distilled-t100-as-published")


def probe_file(out: Path, name: str) -> Path:
    """Return where the probe of `zoo:NAME` is kept."""
    return out / f"probe-{name}.json"


def probe_networks(out: Path, limit: int | None = None, device: str = "cpu") -> Iterator[Path]:
    """Probe the plain network and the distilled ones on MNIST's test images, and yield each file as it is written.

    A probe of as many images that is there already is left as it is.
    """
    from assay.audit import probe_gradients
    from assay.data import load_data
    from assay.evaluate.files import write_atomically
    from assay.models import load_model

    for name in PROBED:
        model = load_model(f"zoo:{name}", device=device)
        data = load_data("mnist/test", model=model, limit=limit)
        path = probe_file(out, name)
        if not _is_of(path, len(data)):
            probe = probe_gradients(model, data)
            write_atomically(path, (json.dumps(dataclasses.asdict(probe), indent=1) + "\n").encode())
            yield path


def _is_of(path: Path, n: int) -> bool:
    try:
        return bool(json.loads(path.read_text("utf-8"))["n"] == n)
    except (OSError, ValueError, KeyError, TypeError):
        return False

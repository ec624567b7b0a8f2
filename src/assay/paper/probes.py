"""What gradient attacks can see of the MNIST networks: the evidence beside Table XIV, one file per network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    from assay.evaluation.files import write_atomically
    from assay.models import load_model

    for name in PROBED:
        model = load_model(f"zoo:{name}", device=device)
        data = load_data("mnist/test", model=model, limit=limit)
        path = probe_file(out, name)
        if (read_probe(out, name) or {}).get("n") != len(data):
            probe = probe_gradients(model, data)
            write_atomically(path, (json.dumps(probe.to_dict(), indent=1) + "\n").encode())
            yield path


def read_probe(out: Path, name: str) -> dict[str, Any] | None:
    """Return the probe of `zoo:NAME` as plain values, or None where there is none that can be read."""
    try:
        probe = json.loads(probe_file(out, name).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return probe if isinstance(probe, dict) and {"n", "zero"} <= set(probe) else None

"""The state of a training on disk: whole or absent, and never continued by another training."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import torch

from assay.core.errors import BadInput
from assay.files import write_atomically

Row = dict[str, Any]

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The checkpoint in `folder` of the training described by `training` (what must be equal to continue).

    `parts` are the objects to save and restore, each with `state_dict` and `load_state_dict`.
    """

    folder: Path
    parts: dict[str, Any]
    training: dict[str, str]

    def restore(self) -> list[Row]:
        """Load the saved state into the parts and return the saved log rows; nothing saved gives no rows.

        Raises `BadInput` when the checkpoint belongs to another training or cannot be read.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            return []
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            different = [name for name, value in self.training.items() if saved["training"].get(name) != value]
        except Exception as error:
            raise BadInput(f"{path} is no checkpoint of a training ({error}). Delete it to start anew.") from error
        if different:
            was, now = ({name: side.get(name) for name in different} for side in (saved["training"], self.training))
            raise BadInput(
                f"{self.folder} holds another training: {was} there, {now} here. "
                "Name another folder, or delete this one to start anew."
            )
        for name, part in self.parts.items():
            part.load_state_dict(saved["parts"][name])
        rows: list[Row] = saved["log"]
        self._write_log(rows)
        return rows

    def save(self, rows: list[Row]) -> None:
        """Write the parts and the log rows so far; a crash at any moment leaves the previous checkpoint."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        content = io.BytesIO()
        torch.save({"training": self.training, "parts": parts, "log": rows}, content)
        write_atomically(self.folder / CHECKPOINT, content.getvalue())
        self._write_log(rows)

    def _write_log(self, rows: list[Row]) -> None:
        # derived from the checkpoint, so a crash between the two writes is repaired at the next start
        write_atomically(self.folder / LOG, "".join(json.dumps(row) + "\n" for row in rows).encode())

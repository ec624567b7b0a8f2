"""Labelled picture files, however their labels were found, as a `Source`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from assay.data.class_orders import Renumbering
from assay.data.dataset import Source
from assay.data.pictures import Pictures
from assay.data.stores.parquet_rows import ParquetRows
from assay.data.stores.pieces import FarFiles, Named
from assay.data.survey import survey
from assay.data.written_labels import Written
from assay.models.classifier import Classifier

_END = 4096


@dataclasses.dataclass(frozen=True)
class LabelledFiles:
    """Files relative to `root`, the label of each, and what the labels are called.

    `written` is the data set as the user named it, `renumberings` are other ways to number its classes. `far` are the
    files themselves where they lie in a store.
    """

    root: str | Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    written: Written | None = None
    renumberings: tuple[Renumbering, ...] = ()
    far: FarFiles | ParquetRows | None = None

    def source(self, model: Classifier | None, ids: Sequence[str] | None = None) -> Source:
        """Return the files as a source, resized and cropped as the model's weights want; ids are relative paths.

        The headers of a few files are read, and what they hold that is easily misread is noted.
        """
        shape = model.input_shape if model else None
        channels = (shape[0] if shape else model.channels if model else None) or 3
        written = self.written or Written("")
        reading = written.reading()
        paths: tuple[str, ...] | FarFiles | ParquetRows = self.far or tuple(
            [f"{self.root}/{name}" for name in self.files]
        )
        about_pictures = survey(paths, model, channels, written) if self.written else ()
        return Source(
            ids=tuple(ids or self.files),
            labels=self.labels,
            classes=self.classes,
            input_shape=shape,
            read=Pictures(paths, channels, model.preprocess if model else None, reading),
            content=Ends(paths, reading.words) if isinstance(paths, tuple) else Named(paths, reading.words),
            notes=self.notes + about_pictures,
            about_pictures=about_pictures,
            renumberings=self.renumberings,
        )


@dataclasses.dataclass(frozen=True)
class Ends:
    """Names the content of files by their sizes and first and last 4 KiB: 50,000 files in seconds.

    `reading` says how they are read, where it is not as usual.
    """

    paths: tuple[str, ...]
    reading: str = ""

    def __call__(self, positions: Sequence[int]) -> str:
        """Return the digest of the files at these positions; a file that cannot be read counts as empty."""
        content = hashlib.blake2b(self.reading.encode(), digest_size=16)
        for at in positions:
            try:
                with Path(self.paths[at]).open("rb") as file:
                    size = file.seek(0, 2)
                    file.seek(0)
                    content.update(f"{size} ".encode() + file.read(_END))
                    file.seek(max(0, size - _END))
                    content.update(file.read(_END))
            except OSError:
                content.update(b"unreadable")
        return content.hexdigest()

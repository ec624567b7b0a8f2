"""A run directory as a reader sees it."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assay.core.budget import parse_budget
from assay.core.errors import BadInput, did_you_mean
from assay.evaluation.analysis import query_curves as effort
from assay.evaluation.analysis import score
from assay.evaluation.analysis.brackets import ATTACK_COLUMNS, CERTIFICATE_COLUMNS, BracketTable, bracket_tables
from assay.evaluation.analysis.kept_numbers import LEAST, KeptNumbers
from assay.evaluation.analysis.pairs import PAIR_COLUMNS, PairTable, pair_tables, paired_cells
from assay.evaluation.analysis.rejection import FrozenThreshold
from assay.evaluation.analysis.scan import Scan
from assay.evaluation.analysis.score import Result
from assay.evaluation.asked import plain
from assay.evaluation.planned import Planned
from assay.evaluation.records.certificates import CERTIFICATE_SCHEMA
from assay.evaluation.records.gallery import PICTURED_CHUNKS, Picture, decode
from assay.evaluation.records.manifest import NAME, read_manifest
from assay.evaluation.records.store import CERTIFICATES, GALLERY, RESULTS, Store
from assay.evaluation.records.verdicts import FOLDER as VERDICTS
from assay.evaluation.records.verdicts import Verdict, read_verdicts
from assay.files import is_far, url_of
from assay.spending import spent_in
from assay.vocabulary import UNATTACKED
from assay.wording import measure, plural

if TYPE_CHECKING:
    from assay.evaluation.analysis.corruptions import CorruptionTable
    from assay.evaluation.study.spec import Study

STUDY_FILE = "study.lock.yaml"
GRADIENT = "gradient"

_READ = (NAME, STUDY_FILE, RESULTS, CERTIFICATES, GALLERY, VERDICTS)
"""What is read of a run directory, and copied from a store."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory: its study's name, its manifest, and the records stored so far.

    `far` is its URL where it lies in a store: `path` is then a copy of it as it was when it was opened.
    """

    path: Path
    study: str
    manifest: dict[str, Any] = dataclasses.field(repr=False)
    far: str = ""
    # what was computed from the shards, and their state then
    _known: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Open a run directory, or one in a store by its URL (s3://bucket/run): what is read of it is copied here.

        Raises `BadInput` when `path` is none, and `Unavailable` where the store does not answer.
        """
        if is_far(os.fspath(path)):
            return cls._open_far(os.fspath(path))
        folder = Path(path).expanduser()
        manifest = read_manifest(folder)
        if not manifest:
            if url := url_of(path):
                raise BadInput(
                    f"{url} lies in a store; here a run directory on this machine is expected. Copy it first, or look "
                    f"at it there: assay show {url}"
                )
            near = [one.name for one in folder.parent.glob("*") if (one / NAME).is_file()] if folder.name else []
            why = "it has no manifest.json" if folder.is_dir() else "there is no such directory"
            raise BadInput(f"{path} is not a run directory: {why}.{did_you_mean(folder.name, near)}")
        return cls(folder, manifest["study"], manifest)

    @classmethod
    def _open_far(cls, url: str) -> Run:
        from assay.data.stores.mirror import copied

        folder = copied(url, _READ, "runs")
        manifest = read_manifest(folder)
        if not manifest:
            raise BadInput(f"{url} is not a run directory: it has no {NAME}.")
        return cls(folder, manifest["study"], manifest, url.rstrip("/"))

    @property
    def status(self) -> str:
        """`success`, `error` or `cancelled`; `started` while it runs, and after it was killed."""
        return str(self.manifest["status"])

    @property
    def reportable(self) -> bool:
        """Whether the numbers may be reported; `manifest["not_reportable_because"]` says why not."""
        return bool(self.manifest["reportable"])

    @property
    def cells(self) -> dict[str, dict[str, Any]]:
        """The resolved cells by digest; those that are certificates are apart."""
        return {digest: cell for digest, cell in self.manifest["cells"].items() if "certificate" not in cell}

    @property
    def certificate_cells(self) -> dict[str, dict[str, Any]]:
        """The resolved cells that are certificates, by digest."""
        return {digest: cell for digest, cell in self.manifest["cells"].items() if "certificate" in cell}

    @property
    def store(self) -> Store:
        """Where the records are."""
        return Store(self.path)

    def spec(self) -> Study:
        """Return the resolved study."""
        from assay.evaluation.study.yaml_source import load_study

        return load_study(self.path / STUDY_FILE)

    def records(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the records, one row per sample and budget, in order of cell and chunk."""
        return self.store.read(list(self.cells), columns)

    def pieces(
        self, columns: Sequence[str], cells: Iterable[str] | None = None, *, coded: bool = False
    ) -> Iterator[pa.Table]:
        """Yield what `records` returns a bounded number of rows at a time, of all cells or of some (digests).

        No piece holds records of two cells. `coded`: texts that repeat come as dictionaries.
        """
        return self.store.pieces(self.cells if cells is None else cells, columns, coded=coded)

    def certificates(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the records of certificates, one row per sample and budget, in order of cell and chunk."""
        if not self.certificate_cells:
            whole = CERTIFICATE_SCHEMA
            return pa.schema([whole.field(name) for name in columns or whole.names]).empty_table()
        return self.store.read(list(self.certificate_cells), columns)

    def brackets(self) -> list[BracketTable]:
        """Return what certificates and attacks say together: a table per model, data set and threat."""
        bounded = [name for name, cell in self.cells.items() if cell.get("before")]
        if not bounded and not self.certificate_cells:
            return []
        asked = [
            digest
            for digest, cell in self.cells.items()
            if (cell["question"], cell["goal"]) == ("worst_case", "untargeted")
            and cell["specs"]["attack"]["attack"] != UNATTACKED
            and not self.ignores_defense(digest)
        ]
        attacked = self.store.pieces(asked, ATTACK_COLUMNS)
        tables = bracket_tables(attacked, self.store.pieces(self.certificate_cells, CERTIFICATE_COLUMNS))
        return [dataclasses.replace(one, wording=self._wording(one.model, asked)) for one in tables]

    def _wording(self, model: str, cells: Sequence[str]) -> str:
        own = [digest for digest in cells if self.cells[digest].get("model") == model]
        return measure(self.access(model), self.queries_limit(own))

    def pairs(self) -> list[PairTable]:
        """Return what attacks leave the models, and their judges of the same images: a table per pair and attack."""
        cells = self.cells
        found = paired_cells(cells)
        if not found:
            return []
        asked = dict.fromkeys(digest for pair in found for digest in pair)
        return pair_tables(self.store.pieces(asked, PAIR_COLUMNS, coded=True), cells, found)

    def results(self) -> list[score.Result]:
        """Return one result per cell and budget; corrupted data that nothing attacked are apart."""
        return self._told(_attacked(self._scored(Scan.results)))

    def worst_case(self) -> list[score.Result]:
        """Return the per-sample worst case over the attacks, one per model, data set, threat, question and budget."""
        return self._told(_attacked(self._scored(Scan.worst_case)))

    def unattacked(self) -> list[score.Result]:
        """Return the results of cells that were looked at and not attacked, as `results` does."""
        return [one for one in self._scored(Scan.results) if one.attack == UNATTACKED]

    def corruptions(self) -> list[CorruptionTable]:
        """Return the accuracies on corrupted data, an average case: one table per model and data set."""
        found = self.unattacked()
        if not found:
            return []
        # the corruptions are drawn with torch; most runs have none
        from assay.evaluation.analysis.corruptions import tables

        return tables(found, self.manifest)

    def _scored(self, by: Callable[[Scan], list[Result]]) -> list[Result]:
        """Return results without verdicts; shards are read again only where they changed."""
        state = {digest: self.store.state([digest]) for digest in self.cells}
        if self._known.get("state") != state:
            self._known.clear()
            self._known["state"] = state
        if by not in self._known:
            thresholds = {name: FrozenThreshold.of(facts) for name, facts in self.manifest["models"].items()}
            kept = KeptNumbers(self.path)

            def keep(count: Callable[[], list[Result]], kind: str, cells: Sequence[str], about: object) -> list[Result]:
                return kept.or_else(count, kind, [one for digest in cells for one in state[digest]], about)

            read = functools.partial(self.pieces, coded=True)
            self._known[by] = by(Scan(read, self.cells, self._stds(), thresholds, self.rejects, keep))
            kept.keep(2 * len(self.cells) + 2)
        return list(self._known[by])

    def count_ahead(self) -> None:
        """Count the numbers of a large run now, and keep them for whoever opens it."""
        if sum(size for digest in self.cells for _, _, size, _ in self.store.state([digest])) >= LEAST:
            self.results()
            self.worst_case()

    @property
    def rejects(self) -> bool:
        """Whether a model of the run may refuse an image."""
        return any(facts.get("rejects") for facts in self.manifest["models"].values())

    def ignores_defense(self, cell: str) -> bool:
        """Whether the attack of a cell (a digest) is made on another model, while the cell's own is defended."""
        plain = self.cells.get(cell, {})
        facts = self.manifest["models"].get(plain.get("model"), {})
        surrogate = plain.get("specs", {}).get("attack", {}).get("surrogate")
        return bool(surrogate) and bool(facts.get("rejects") or facts.get("defenses"))

    def _told(self, results: Sequence[Result]) -> list[Result]:
        """Return results with the verdict on each; one whose attacks ignore the model's defence says so instead."""
        found = []
        for one in _joined(results, self.verdicts()):
            cells = [one.cell] if one.cell else self._together(one)
            ignores = bool(cells) and all(map(self.ignores_defense, cells))
            told = dataclasses.replace(one, verdict=None, ignores_defense=True) if ignores else one
            access = self.access(one.model)
            if access != GRADIENT:
                told = dataclasses.replace(told, access=access, queries_limit=self.queries_limit(cells))
            found.append(told)
        return found

    def access(self, model: str) -> str:
        """Return the most that a model (its label) gives: gradient, scores or labels."""
        return str(self.manifest["models"].get(model, {}).get("access", GRADIENT))

    def queries_limit(self, cells: Iterable[str]) -> int | None:
        """Return how often the attack that asks most of some cells may ask about an image; None if unknown."""
        limits = self.manifest.get("query_limits", {})
        return max((int(limits[one]) for one in cells if one in limits), default=None)

    def _together(self, result: Result) -> list[str]:
        # the cells that a result of several attacks is over
        return [
            digest
            for digest, cell in self.cells.items()
            if all(cell.get(name) == getattr(result, name) for name in ("model", "data", "threat", "question", "goal"))
            and result.eps in [parse_budget(written).value for written in cell["eps"]]
        ]

    def verdicts(self) -> list[Verdict]:
        """Return what an audit said about the numbers of the cells as they stand."""
        return [one for one in read_verdicts(self.path) if set(one.cells) == self._behind(one)]

    def _behind(self, verdict: Verdict) -> set[str]:
        # the cells that its number comes from now: an attack added since makes another number
        about = {name: getattr(verdict, name) for name in ("model", "data", "threat", "unit", "goal")}
        about["question"] = "worst_case"
        return {
            digest
            for digest, cell in self.cells.items()
            if all(cell.get(name, value) == value for name, value in about.items())
            and verdict.eps in [parse_budget(written).value for written in cell.get("eps", [verdict.eps_written])]
        }

    def efforts(self, over: str) -> list[effort.Effort]:
        """Return accuracy against `queries`, `steps`, `forwards` or `backwards`, per cell that stops at success."""
        return effort.efforts(self._needed, self.cells, over, self.manifest.get("methods"))

    def stages(self) -> list[effort.Stage]:
        """Return what each stage of the composed attacks left standing, per cell and budget."""
        return effort.stages(self._needed, self.cells, self.manifest.get("methods"))

    def _needed(self, cell: str) -> Iterator[pa.Table]:
        return self.pieces(effort.NEEDED, [cell], coded=True)

    def endpoints(self) -> list[dict[str, Any]]:
        """Return what was asked of each endpoint: rows asked, billed, requests, retries and cost, in all and by cell.

        `billed` are the rows that went out; the others were known. Besides cells, `places` are `labels` (predicted),
        `doctor`, `check` (rows asked again, to see whether the model is still the same) and `audit`.
        """
        spent = spent_in(self.path)
        # without its answers, a run has what stood there when it ended
        return plain(self.manifest["models"], spent) if spent else list(self.manifest.get("endpoints", ()))

    def gaps(self) -> list[str]:
        """Return what is not there of the records that the run should have, in words; nothing where all are."""
        cells = [Planned.of(digest, plain) for digest, plain in self.manifest["cells"].items()]
        done, damaged = self.store.done(cells)
        # a damaged file is named with all of its chunks, and one of them may lie in another file too
        known = {digest: set(chunks) for digest, chunks in done.items()}
        for one in damaged:
            known[one.path.parent.name].update(one.chunks)
        missing = sum(cell.chunks - len(known[cell.digest].intersection(range(cell.chunks))) for cell in cells)
        told = [f"{one.path} {one.wrong}" for one in damaged]
        return [
            *told,
            *(
                [f"{plural(missing, 'chunk')} of records {'is' if missing == 1 else 'are'} not there"]
                if missing
                else []
            ),
        ]

    def reservations(self) -> list[str]:
        """Return why the numbers may not be reported, and what is missing of them; nothing where all is well."""
        because = [str(one) for one in self.manifest.get("not_reportable_because", ())]
        if not self.reportable and not because:
            because = ["its manifest says so"]
        return [*because, *self.gaps()]

    def gallery(self, cell: str) -> list[Picture]:
        """Return the pictures kept for a cell (a digest)."""
        paths = [self.store.pictures(cell, chunk) for chunk in range(PICTURED_CHUNKS)]
        return [picture for path in paths if path.is_file() for picture in decode(path)]

    def _stds(self) -> dict[str, Sequence[float] | None]:
        return {name: facts["std"] for name, facts in self.manifest["models"].items()}


def _attacked(results: Sequence[Result]) -> list[Result]:
    return [one for one in results if one.attack != UNATTACKED]


def _joined(results: Sequence[Result], verdicts: Sequence[Verdict]) -> list[Result]:
    """Return results with the verdict on each; a result of several attacks together gets that of all together."""
    known = {one.key: one for one in verdicts}
    return [dataclasses.replace(one, verdict=_verdict(one, known)) for one in results]


def _verdict(result: Result, known: Mapping[tuple[Any, ...], Verdict]) -> str | None:
    one = known.get((result.model, result.data, result.threat, result.unit, result.eps, result.goal))
    if one is None or result.question != "worst_case":
        return None
    return one.cells.get(result.cell) if result.cell else one.verdict


__all__ = ["STUDY_FILE", "Picture", "Result", "Run"]

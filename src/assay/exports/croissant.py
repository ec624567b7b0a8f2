"""The records as a data set that describes itself: Parquet, and Croissant 1.0 metadata in JSON-LD.

The format is MLCommons' (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html).
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from assay.exports.facts import Facts
from assay.files import write_atomically, writing_atomically

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

_CONFORMS = "http://mlcommons.org/croissant/1.0"
_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "equivalentProperty": "cr:equivalentProperty",
    "field": "cr:field", "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet",
    "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/", "recordSet": "cr:recordSet", "references": "cr:references",
    "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
_MEANINGS = {
    "results": "The numbers: one row per cell and budget, as `assay show --json` prints them.",
    "records": "The records: one row per sample and budget.",
    "certificates": "The certificates: one row per sample and budget.",
}


def write_croissant(facts: Facts, target: Path) -> list[str]:
    """Write metadata.json beside results.parquet, records.parquet and certificates.parquet, where there are any.

    Records are read and written a bounded number at a time.
    """
    files = {}
    for name, pieces in _tables(facts):
        first = next(pieces, None)
        if first is not None and first.num_rows:
            files[name] = _written(target / f"{name}.parquet", itertools.chain([first], pieces), first.schema)
    reasons = "".join(f" Not to be reported: {reason}." for reason in facts.reservations)
    plain = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": facts.run.study,
        "description": f"What the robustness study {facts.run.study} measured, with Assay.{reasons}",
        "conformsTo": _CONFORMS,
        "version": "1.0.0",
        "datePublished": str(facts.manifest["finished"] or facts.manifest["started"]),
        "distribution": [_file(target / f"{name}.parquet") for name in files],
        "recordSet": [_record_set(name, schema) for name, schema in files.items()],
    }
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    # last: where it is there, what it describes is
    write_atomically(target / "metadata.json", f"{text}\n".encode())
    return [str(target / name) for name in ("metadata.json", *(f"{name}.parquet" for name in files))]


def _tables(facts: Facts) -> Iterator[tuple[str, Iterator[pa.Table]]]:
    import pyarrow as pa

    from assay.evaluation.records.certificates import CERTIFICATE_SCHEMA
    from assay.evaluation.records.schema import SCHEMA

    run = facts.run
    rows = [{**one, "reportable": facts.shown["reportable"]} for one in facts.rows]
    yield "results", iter([pa.Table.from_pylist(rows)])
    yield "records", run.pieces(SCHEMA.names)
    yield "certificates", run.store.pieces(run.certificate_cells, CERTIFICATE_SCHEMA.names)


def _written(path: Path, pieces: Iterable[pa.Table], schema: pa.Schema) -> pa.Schema:
    """Write pieces of a table as Parquet, and return its columns as they are there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # a column of nothing has no type of its own
    kinds = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    told = pa.schema(kinds)
    with writing_atomically(path) as file, pq.ParquetWriter(file, told, compression="zstd") as writer:
        for piece in pieces:
            writer.write_table(piece.cast(told))
    return told


def _file(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": digest,
    }


def _record_set(name: str, schema: pa.Schema) -> Mapping[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{field.name}",
            "name": field.name,
            "dataType": _kind(field.type),
            "source": {"fileObject": {"@id": f"{name}.parquet"}, "extract": {"column": field.name}},
        }
        for field in schema
    ]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": _MEANINGS[name], "field": fields}


def _kind(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"

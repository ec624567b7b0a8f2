"""The records as a data set that describes itself: Parquet, and Croissant 1.0 metadata in JSON-LD.

The format is MLCommons' (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from assay.exports.facts import Facts
from assay.files import write_atomically

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
    """Write metadata.json beside results.parquet, records.parquet and certificates.parquet, where there are any."""
    files = {name: (table, _parquet(table)) for name, table in _tables(facts) if table.num_rows}
    for name, (_, content) in files.items():
        write_atomically(target / f"{name}.parquet", content)
    reasons = "".join(f" Not to be reported: {reason}." for reason in facts.reservations)
    plain = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": facts.run.study,
        "description": f"What the robustness study {facts.run.study} measured, with Assay.{reasons}",
        "conformsTo": _CONFORMS,
        "version": "1.0.0",
        "datePublished": str(facts.manifest["finished"] or facts.manifest["started"]),
        "distribution": [_file(name, content) for name, (_, content) in files.items()],
        "recordSet": [_record_set(name, table) for name, (table, _) in files.items()],
    }
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    # last: where it is there, what it describes is
    write_atomically(target / "metadata.json", f"{text}\n".encode())
    return [str(target / name) for name in ("metadata.json", *(f"{name}.parquet" for name in files))]


def _tables(facts: Facts) -> Iterator[tuple[str, pa.Table]]:
    import pyarrow as pa

    yield "results", pa.Table.from_pylist([{**one, "reportable": facts.shown["reportable"]} for one in facts.rows])
    yield "records", facts.run.records()
    yield "certificates", facts.run.certificates()


def _parquet(table: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # a column of nothing has no type of its own
    kinds = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in table.schema]
    buffer = pa.BufferOutputStream()
    pq.write_table(table.cast(pa.schema(kinds)), buffer, compression="zstd")
    return bytes(buffer.getvalue())


def _file(name: str, content: bytes) -> Mapping[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": f"{name}.parquet",
        "name": f"{name}.parquet",
        "contentUrl": f"{name}.parquet",
        "contentSize": f"{len(content)} B",
        "encodingFormat": "application/x-parquet",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _record_set(name: str, table: pa.Table) -> Mapping[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{field.name}",
            "name": field.name,
            "dataType": _kind(field.type),
            "source": {"fileObject": {"@id": f"{name}.parquet"}, "extract": {"column": field.name}},
        }
        for field in table.schema
    ]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": _MEANINGS[name], "field": fields}


def _kind(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"

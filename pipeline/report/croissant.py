"""Croissant metadata of a dataset: its curated records described as JSON-LD, for tools that load datasets by it.

The format is that of MLCommons, version 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html).
"""

import json
from collections.abc import Sequence
from typing import Any

from corpus.contract import DatasetInfo, FileInfo, curated_file
from corpus.record import SCHEMA

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_DESCRIPTIONS = {
    "row_id": "Identity of the row: a hash of source, file, row and part.",
    "source": "Name of the source in the manifest.",
    "task": "Stratum inside the source.",
    "instruction": "What the model is asked.",
    "response": "What it is trained to answer.",
    "condition": "Conditions that the prefix states: some of synth, noisy, cot, direct.",
    "meta": "JSON of whatever the source's row had besides.",
}


def croissant(info: DatasetInfo, curated: Sequence[FileInfo], license: str | None) -> str:
    """Return the content of croissant.json.

    Parameters
    ----------
    info
        Content of dataset.json.
    curated
        Size and hash of each file of curated records, in order.
    license
        The mix's licence; None: not stated.
    """
    paths = [curated_file(part) for part in range(len(curated))]
    files = [
        {
            "@type": "cr:FileObject",
            "@id": path,
            "name": path,
            "contentUrl": path,
            "contentSize": f"{file.bytes} B",
            "encodingFormat": "application/x-parquet",
            "sha256": file.sha256,
        }
        for path, file in zip(paths, curated, strict=True)
    ]
    metadata = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": info.name,
        "description": f"{info.samples:,} instruction-response samples of {len(info.counts):,} sources, curated, "
        f"deduplicated and decontaminated by Millrace.",
        "version": "1.0.0",
        "identifier": info.fingerprint,
        **({} if license is None else {"license": license}),
        "keywords": ["instruction tuning", "instruction-response"],
        "distribution": [*files, _FILES],
        "recordSet": [_RECORDS],
    }
    return json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"


_FILES = {
    "@type": "cr:FileSet",
    "@id": "curated",
    "name": "curated",
    "includes": "curated/*.parquet",
    "encodingFormat": "application/x-parquet",
}
_RECORDS = {
    "@type": "cr:RecordSet",
    "@id": "records",
    "name": "records",
    "description": "The samples as text, in sample order.",
    "key": {"@id": "records/row_id"},
    "field": [
        {
            "@type": "cr:Field",
            "@id": f"records/{column}",
            "name": column,
            "description": _DESCRIPTIONS[column],
            "dataType": "sc:Text",
            **({"repeated": True} if column == "condition" else {}),
            "source": {"fileSet": {"@id": "curated"}, "extract": {"column": column}},
        }
        for column in SCHEMA.names
    ],
}

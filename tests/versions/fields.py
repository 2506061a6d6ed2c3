"""The fields of every stored document by model: the contents of a schema version.

``python tests/versions/fields.py`` writes them to fields.json, and a test compares them. A change of fields needs a
new version, unless the current one is unreleased, and a small file of the previous version in ``files/``.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from edgepack.bundle.manifest import Manifest
from edgepack.measuring.measurement import Measurement
from edgepack.pipeline.figures import EvaluateFigures, SourceFigures, StepFigures
from edgepack.pipeline.stages.bench import BenchFigures
from edgepack.pipeline.stages.package import PackageFigures
from edgepack.pipeline.stages.tune import TuneFigures
from edgepack.pipeline.trace import TRACE_VERSION, TraceEvent
from edgepack.reporting.document import Report

PATH = Path(__file__).with_name("fields.json")
FIGURES = (SourceFigures, StepFigures, EvaluateFigures, TuneFigures, PackageFigures, BenchFigures)


def _fields(model: type[BaseModel] | Any) -> dict[str, list[str]]:
    schema = TypeAdapter(model).json_schema()
    models = schema.pop("$defs", {})
    if "properties" in schema:
        models[schema["title"]] = schema
    return {name: sorted(one["properties"]) for name, one in models.items() if "properties" in one}


def current() -> dict[str, dict[str, Any]]:
    """Each document's version, and the names of the fields of every model in it."""
    documents = {
        model.noun or model.model_fields["kind"].default: (model.schema_version(), _fields(model))
        for model in (Manifest, Report, Measurement)
    }
    documents["trace"] = (
        TRACE_VERSION,
        _fields(TraceEvent) | {k: v for f in FIGURES for k, v in _fields(f).items()},
    )
    return {
        name: {"version": version, "fields": dict(sorted(fields.items()))}
        for name, (version, fields) in documents.items()
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n")

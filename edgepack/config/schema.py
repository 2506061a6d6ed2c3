"""JSON Schemas of recipes, targets and devices.yaml, for editors. The committed copies are in ``schemas/``."""

import json
from typing import Any, Literal, get_args

from edgepack.config.device import Devices
from edgepack.config.recipe import SCHEMA_VERSION, Recipe
from edgepack.config.target import Target
from edgepack.spec import Spec

Kind = Literal["recipe", "target", "devices"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_MODELS: dict[Kind, type[Spec]] = {"recipe": Recipe, "target": Target, "devices": Devices}


def schema(kind: Kind) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a recipe, target or devices file."""
    body = _MODELS[kind].model_json_schema()
    if kind == "target":
        # A target that extends another may omit any key, at any depth.
        for part in (body, *body["$defs"].values()):
            part.pop("required", None)
        body["required"] = ["edgepack", "name"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:edgepack:schema:{kind}:{SCHEMA_VERSION}",
        **body,
        "title": f"edgepack {kind}",
    }


def render(kind: Kind) -> str:
    """The schema as the text of its file."""
    return json.dumps(schema(kind), indent=2, ensure_ascii=False) + "\n"

"""Checks the JSON document on stdin against a schema: FOLDER NAME. The schemas name each other by file."""

import json
import pathlib
import sys
import warnings

warnings.simplefilter("ignore")
from jsonschema import Draft4Validator, RefResolver  # noqa: E402


def without_ids(value):
    """Their ids are addresses on the web, which references would be resolved against."""
    if isinstance(value, dict):
        is_id = lambda name, inner: name == "id" and isinstance(inner, str) and inner.startswith("http")
        return {name: without_ids(inner) for name, inner in value.items() if not is_id(name, inner)}
    return [without_ids(inner) for inner in value] if isinstance(value, list) else value


folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
schemas = {file.as_uri(): without_ids(json.loads(file.read_text())) for file in folder.glob("*.json")}
schema = schemas[(folder / name).as_uri()]
resolver = RefResolver((folder / name).as_uri(), schema, store=schemas)
errors = Draft4Validator(schema, resolver=resolver).iter_errors(json.load(sys.stdin))
sys.exit("\n".join(f"{list(error.path)}: {error.message}" for error in errors) or 0)

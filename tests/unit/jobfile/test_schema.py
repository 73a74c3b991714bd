"""The published JSON Schema accepts what ``load`` accepts, and refuses the plain mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.jobfile.file import load, schema
from tests.unit.jobfile.test_load import FULL

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("**/*.y*ml"))
VALIDATOR = jsonschema.Draft202012Validator(schema())


def check(text: str) -> None:
    # FULL says `on` and `010`, which PyYAML's YAML 1.1 would read as a truth and as eight: both valid in `env` anyway.
    value: Any = yaml.safe_load(text)
    VALIDATOR.validate(value)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize(
    "text",
    [
        FULL,
        "name: a\ngroups: {b: {tasks: {c: {image: x}}}}",
        "name: a\nimage: x\nports: {http: 80, x: {to: 1}}\nresources: {gpus: 2}",
        "name: a\ntasks: [{name: a, command: ls -l}]",
    ],
)
def test_good_files_validate(text: str) -> None:
    load(text)
    check(text)


@pytest.mark.parametrize(
    "text", ["name: a\nimge: x", "name: ../x", "image: x", "name: a\ncount: -1", "name: a\ntype: servce"]
)
def test_plain_mistakes_do_not(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(text)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_validates(path: Path) -> None:
    text = path.read_text()
    load(text, path.name)
    check(text)

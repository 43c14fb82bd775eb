"""The documents against the code: links resolve, and what they tell a reader to type exists."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from prefect.flows import load_flow_from_entrypoint

from flows.evaluate import EvaluateCommand
from flows.generate import GenerateCommand
from flows.parameters import TrainParameters
from flows.promote import PromoteCommand
from flows.train import TrainCommand

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    path
    for folder in (CHECKOUT, CHECKOUT / "docs", CHECKOUT / "docs" / "decisions", CHECKOUT / "data" / "mnist")
    for path in sorted(folder.glob("*.md"))
]
SET_UP = {"PYTHON", "GPU", "ARGS", "UV_ARGS"}
README = (CHECKOUT / "README.md").read_text()

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))


def code(document: Path) -> list[str]:
    """Return a document's lines of shell: code blocks marked sh, and code within sentences."""
    text = document.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()] + inline


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def makefile_targets() -> set[str]:
    """Return the Makefile's targets that a person may name."""
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))


@each_document
def test_links_resolve(document: Path) -> None:
    """Every relative link leads to a file of the checkout, and its anchor to a heading there."""
    for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", document.read_text()):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_document
def test_make_commands_exist(document: Path) -> None:
    """Every `make …` names targets of the Makefile, and variables that it takes."""
    variables = {name.upper() for name in TrainParameters.model_fields} | SET_UP
    for line in code(document):
        for command in re.findall(r"\bmake((?: +[\w./:=-]+)+)", line):
            for word in command.split():
                name, is_variable, _ = word.partition("=")
                assert name in (variables if is_variable else makefile_targets()), line


@each_document
def test_flags_exist(document: Path) -> None:
    """Every flag of a flow's command is one that it takes, and every module that is run is there."""
    commands = {
        "flows.train": TrainCommand,
        "flows.evaluate": EvaluateCommand,
        "flows.promote": PromoteCommand,
        "flows.generate": GenerateCommand,
    }
    for line in code(document):
        for module, arguments in re.findall(r"python -m ([\w.]+)((?: [^|;&]+)?)", line):
            if module in commands:
                known = {f"--{name.replace('_', '-')}" for name in commands[module].model_fields}
                assert set(re.findall(r"--[a-z-]+", arguments)) <= known, line
            path = CHECKOUT / module.replace(".", "/")
            assert module == "pytest" or path.with_suffix(".py").exists() or (path / "__main__.py").exists(), line


@each_document
def test_deployments_exist(document: Path) -> None:
    """Every deployment that a document names is in prefect.yaml, and parameters given to it are the flow's."""
    deployments = {each["name"] for each in yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]}
    for line in code(document):
        assert set(re.findall(r"\bdcgan/([a-z]+)(?![\w./])", line)) <= deployments, line
        assert set(re.findall(r"--param (\w+)=", line)) <= TrainParameters.model_fields.keys(), line


def test_readme_explains_every_parameter() -> None:
    """README's table has the variable and the flag of each parameter of the pipeline."""
    rows = re.findall(r"^\| `([A-Z]+)` \| `(--[a-z-]+)` \|", README, flags=re.MULTILINE)
    assert rows == [(name.upper(), f"--{name}") for name in TrainParameters.model_fields]


def test_readme_explains_every_recipe_and_deployment() -> None:
    """Nothing that a reader can choose is missing from README."""
    deployments = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]
    recipes = TrainParameters.model_json_schema()["properties"]["recipe"]["enum"]
    flows = {each["name"]: load_flow_from_entrypoint(str(CHECKOUT / each["entrypoint"])).name for each in deployments}
    names = [f"* `{name}`" for name in recipes] + [f"| `{flow}/{name}` |" for name, flow in flows.items()]
    assert [name for name in names if name not in README] == []


def test_readme_explains_every_setting() -> None:
    """README's table has each environment variable that the settings read."""
    source = "".join(
        path.read_text() for path in (CHECKOUT / "tasks/settings.py", CHECKOUT / "operations/addresses.py")
    )
    read = set(re.findall(r'"(DCGAN_\w+|PREFECT_API_URL|MLFLOW_TRACKING_URI)"', source))
    assert {"DCGAN_STATE", "PREFECT_API_URL", "MLFLOW_TRACKING_URI"} <= read
    assert read <= set(re.findall(r"^\| `([A-Z_]+)` \|", README, flags=re.MULTILINE))


def test_every_dependency_has_its_reason() -> None:
    """The decision about dependencies names each one of pyproject.toml."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    wanted = {Requirement(each).name for each in project["project"]["dependencies"]}
    page = (CHECKOUT / "docs/decisions/dependencies.md").read_text()
    table = ", ".join(re.findall(r"^\| ([a-z0-9, -]+) \|", page, flags=re.MULTILINE))
    assert wanted <= set(table.split(", "))


def test_decisions_are_all_listed() -> None:
    """Every page of docs/decisions is in its list."""
    folder = CHECKOUT / "docs" / "decisions"
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text()))
    assert linked == {path.name for path in folder.glob("*.md")} - {"README.md"}

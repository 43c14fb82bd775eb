"""The documents against the code: links resolve, and the commands that they tell a reader to type exist."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from flows import cli
from flows.train import dcgan

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for folder in (".", "docs", "docs/decisions", "docs/reference", "data/mnist", "data/classifiers")
    for path in (CHECKOUT / folder).glob("*.md")
)
OTHER_VARIABLES = {"PYTHON", "GPU", "PRODUCTION", "ARGS", "UV_ARGS", "DCGAN_LISTEN", "DCGAN_STATE", "NOTIFY"}
COMMON_FLAGS = {"--summary", "--debug", "--help", "--version", "--install-completion"}
LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")


def code(document: Path) -> list[str]:
    """Return a document's lines of shell: code blocks marked sh, indented blocks, and code within sentences."""
    text = document.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}(\S.*)$", prose, flags=re.MULTILINE)
    inline = [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", prose)]
    return (
        [line.split(" #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]
        + indented
        + inline
    )


def commands(pattern: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield every command in a document that matches, with the place where it stands."""
    for document in DOCUMENTS:
        if document.name == "CHANGELOG.md":  # it names commands of earlier versions too
            continue
        for line in code(document):
            for match in re.finditer(pattern, line):
                yield f"{document.relative_to(CHECKOUT)}: {line}", match


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def flags(command: str) -> set[str]:
    """Return the flags of a flow's command: its own, and those that every command has."""
    return COMMON_FLAGS | {
        name for argument in cli.app[command].assemble_argument_collection() for name in argument.names
    }


def test_links_resolve() -> None:
    """Every relative link leads to a file of the checkout, and its anchor to a heading there."""
    found = [(document, link) for document in DOCUMENTS for link in LINK.findall(document.read_text())]
    assert len(found) > 60
    broken = []
    for document, link in found:
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{document.relative_to(CHECKOUT)}: {link}")
    assert broken == []


def test_every_page_is_found_from_the_start() -> None:
    """The site's first page and the README lead to each page of the site, but for the single decisions."""
    pages = {path.name for path in (CHECKOUT / "docs").glob("*.md")} - {"index.md"}
    navigation = (CHECKOUT / "mkdocs.yml").read_text()
    for document in (CHECKOUT / "docs" / "index.md", CHECKOUT / "README.md"):
        linked = {Path(link.partition("#")[0]).name for link in LINK.findall(document.read_text())}
        assert pages <= linked, document
    assert [page for page in pages if f": {page}" not in navigation] == []


def test_make_commands_exist() -> None:
    """Every `make …` names targets of the Makefile, and variables that it takes."""
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))
    parameters = inspect.signature(dcgan.fn).parameters
    variables = OTHER_VARIABLES | {"SET" if name == "hyperparameters" else name.upper() for name in parameters}
    found = list(commands(r"\bmake((?: +[\w./:=-]+)+)"))
    assert len(found) > 30
    words = [(where, word.partition("=")) for where, match in found for word in match[1].split()]
    assert [where for where, (name, equals, _) in words if name not in (variables if equals else targets)] == []


def test_dcgan_commands_exist() -> None:
    """Every `dcgan …` names a subcommand, and flags that it takes."""
    found = list(commands(r"(?<![\w./-])(?:\.venv/bin/)?dcgan ([a-z]+(?:-[a-z]+)*)((?: [^|;&`]+)?)"))
    assert len(found) >= 5
    assert [where for where, match in found if match[1] not in cli.app] == []
    assert [
        where
        for where, match in found
        if match[1] in cli.COMMANDS and not set(re.findall(r"--[a-z-]+", match[2])) <= flags(match[1])
    ] == []


def test_modules_exist() -> None:
    """Every `python -m …` names a module of the checkout, and a flow's module flags that its flow takes."""
    found = list(commands(r"python -m ([\w.]+)((?: [^|;&]+)?)"))
    assert len(found) >= 5
    missing = []
    for where, match in found:
        path = CHECKOUT / match[1].replace(".", "/")
        exists = match[1] == "pytest" or path.with_suffix(".py").exists() or (path / "__main__.py").exists()
        package, _, name = match[1].rpartition(".")
        known = flags(name) if package == "flows" and name in cli.COMMANDS else set(re.findall(r"--[a-z-]+", match[2]))
        if not exists or not set(re.findall(r"--[a-z-]+", match[2])) <= known:
            missing.append(where)
    assert missing == []


def test_deployments_exist() -> None:
    """Every deployment that a document names is in prefect.yaml."""
    deployments = {each["name"] for each in yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]}
    named = list(commands(r"\bdcgan/([a-z]+)(?![\w./])"))
    assert len(named) >= 3
    assert [where for where, match in named if match[1] not in deployments] == []

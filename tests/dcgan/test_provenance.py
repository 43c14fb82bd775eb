"""What a training run's bits depend on: each part of it changes the fingerprint or shows in the environment."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

import dcgan
from dcgan.provenance import Configuration, code_digest, environment
from dcgan.recipe import CLASSIC, FAST, Recipe

CONFIGURATION = Configuration(recipe=CLASSIC, seed=7, dataset_digest="d" * 64)
FINGERPRINT = CONFIGURATION.fingerprint()

# prints the digest and the fingerprint of the package in the current folder, which may be a changed copy
PRINT_DIGESTS = """
import sys
from dcgan.provenance import Configuration, code_digest
print(code_digest(), Configuration.model_validate_json(sys.argv[1]).fingerprint())
"""

PRINT_THREADS = "from dcgan.provenance import environment; print(environment()['threads'])"


def another(value: Any, annotation: Any) -> Any:
    """Return another valid value of a recipe's field."""
    if isinstance(value, str):
        return next((choice for choice in get_args(annotation) if choice != value), f"{value}-again")
    if isinstance(value, bool):
        return not value
    if value is None:
        return 512
    return value * 0.5 if isinstance(value, float) else value + 1


def with_recipe(field: str) -> Configuration:
    """Return the configuration with another value in one of the recipe's fields."""
    value = another(getattr(CLASSIC, field), Recipe.model_fields[field].annotation)
    recipe = Recipe.model_validate({**CLASSIC.model_dump(), field: value})
    return CONFIGURATION.model_copy(update={"recipe": recipe})


CHANGED = {field: with_recipe(field) for field in Recipe.model_fields} | {
    "seed": CONFIGURATION.model_copy(update={"seed": 8}),
    "dataset_digest": CONFIGURATION.model_copy(update={"dataset_digest": "e" * 64}),
}


def test_a_precision_that_depends_on_the_machine_is_refused():
    """A configuration says in which precision its bits were made: `auto` has to be resolved before."""
    with pytest.raises(ValidationError, match="The precision auto depends on the machine"):
        Configuration(recipe=FAST, seed=7, dataset_digest="d" * 64)


@pytest.mark.parametrize(("field", "changed"), CHANGED.items(), ids=CHANGED)
def test_each_field_changes_the_fingerprint(field, changed):
    """Another value in any one field gives another fingerprint, and the difference names it with both values."""
    assert changed.fingerprint() != FINGERPRINT
    mine, others = (c.model_dump() | c.recipe.model_dump() for c in (CONFIGURATION, changed))
    assert CONFIGURATION.differences(changed) == [f"{field} ({mine[field]!r}, here {others[field]!r})"]


def test_all_fingerprints_differ():
    """No two changes lead to the same fingerprint."""
    fingerprints = {changed.fingerprint() for changed in CHANGED.values()} | {FINGERPRINT}
    assert len(fingerprints) == len(CHANGED) + 1


def test_equal_configurations_share_a_fingerprint():
    """A configuration that went through JSON has the same fingerprint and no difference."""
    copy = Configuration.model_validate_json(CONFIGURATION.model_dump_json())
    assert (copy.fingerprint(), copy.differences(CONFIGURATION)) == (FINGERPRINT, [])


@pytest.mark.parametrize("changes", [{"seed": -1}, {"seed": 2**31}, {"seed": None}, {"other": 1}])
def test_unusable_configuration_is_refused(changes):
    """A seed that no generator takes and an unknown key are refused."""
    with pytest.raises(ValidationError, match=next(iter(changes))):
        Configuration.model_validate({**CONFIGURATION.model_dump(), **changes})


@pytest.fixture
def package(tmp_path_factory) -> Path:
    """Return a copy of the library's package that may be changed, in a folder of its own."""
    copy = tmp_path_factory.mktemp("copy") / "dcgan"
    shutil.copytree(Path(dcgan.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def digests(package: Path) -> tuple[str, str]:
    """Return code digest and fingerprint as another process with this copy of the package gives them."""
    command = [sys.executable, "-B", "-c", PRINT_DIGESTS, CONFIGURATION.model_dump_json()]
    answer = subprocess.run(command, cwd=package.parent, check=True, capture_output=True, text=True).stdout.split()
    return answer[0], answer[1]


def test_same_code_elsewhere_has_the_same_digests(package):
    """Neither the folder, nor the process, nor a file that is no module changes the digests."""
    (package / "notes.txt").write_text("not code")
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "losses.pyc").write_bytes(b"compiled")
    assert digests(package) == (code_digest(), FINGERPRINT)


def test_a_changed_module_changes_the_digests(package):
    """One more byte in a module, a module's new name, and a new module each give another digest and fingerprint."""
    found = [(code_digest(), FINGERPRINT)]
    with (package / "model" / "losses.py").open("a") as module:
        module.write("#")
    found.append(digests(package))
    (package / "model" / "losses.py").rename(package / "model" / "loss.py")
    found.append(digests(package))
    (package / "training" / "inner").mkdir()
    (package / "training" / "inner" / "empty.py").touch()
    found.append(digests(package))
    assert [len(set(column)) for column in zip(*found, strict=True)] == [4, 4]


@pytest.mark.parametrize("name", ["recipe.py", "rng.py", "data", "cpu", "training", "evaluation/metrics.py"])
def test_all_code_that_determines_the_weights_counts(name, package):
    """One more byte in any of these changes the digest."""
    changed = package / name if name.endswith(".py") else next((package / name).glob("[a-z]*.py"))
    with changed.open("a") as module:
        module.write("#")
    assert digests(package)[0] != code_digest()


def test_unrelated_edits_leave_the_digests(package):
    """A run resumes after edits of the report, the gate and the exports."""
    for name in ("report/render.py", "evaluation/gate.py", "export.py", "images.py", "generation.py"):
        with (package / name).open("a") as module:
            module.write("#")
    assert digests(package) == (code_digest(), FINGERPRINT)


def test_environment_names_what_else_bits_depend_on():
    """Packages, Python and the processor are reported as they are here."""
    here = environment()
    expected = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    expected |= {"python": platform.python_version()}
    assert {name: here.get(name) for name in expected} == expected
    assert here["processor"].strip() == here["processor"] != ""


@pytest.mark.parametrize(
    ("variable", "cores", "threads"),
    [({}, 1, "1"), ({}, 2, "2"), ({"TF_NUM_INTRAOP_THREADS": "3"}, 1, "3"), ({"TF_NUM_INTRAOP_THREADS": "0"}, 1, "1")],
)
def test_environment_names_the_threads(variable, cores, threads):
    """As many as the cores that the process may use, unless TensorFlow is configured otherwise."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < cores:
        pytest.skip("this process may use one core only")
    program = f"import os; os.sched_setaffinity(0, {usable[:cores]}); {PRINT_THREADS}"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **variable}, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == threads

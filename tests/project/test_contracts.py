"""Who may import whom, and what loading a flow may cost."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "keras", "mlflow")


def test_import_contracts_hold() -> None:
    """The contracts of pyproject.toml are kept, as `make check` requires."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_loading_flows_imports_nothing_heavy() -> None:
    """Every module of flows/ and operations/ loads without TensorFlow, Keras or MLflow, which cost seconds.

    All but those of commands that need them and so have a process of their own.
    """
    modules = sorted(
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
        for folder in ("flows", "operations")
        for path in (CHECKOUT / folder).glob("*.py")
        if path.stem
        not in ("__init__", "export", "compare", "prune", "serve_artifacts", "make_templates", "prepare_mlflow")
    )
    assert {"flows.train", "operations.ui"} <= set(modules)
    program = f"import sys, {', '.join(modules)}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_flows_folder_shadows_nothing() -> None:
    """No module of flows/ has the name of a package: Prefect puts the folder of an entrypoint first on the path."""
    taken = {
        "dcgan",
        "tasks",
        "tracking",
        "flows",
        "operations",
        "prefect",
        "mlflow",
        "keras",
        "tensorflow",
        *sys.stdlib_module_names,
    }
    assert [path.name for path in (CHECKOUT / "flows").glob("*.py") if path.stem in taken] == []

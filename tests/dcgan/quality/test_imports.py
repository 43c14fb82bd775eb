"""What must work without TensorFlow."""

import subprocess
import sys
from pathlib import Path

import dcgan

WITHOUT_TENSORFLOW = (
    "gate",
    "report",
    "evaluation",
    "bounds",
    "memorisation",
    "frechet",
    "kernel",
    "manifold",
    "classes",
)


def test_the_gate_and_the_metrics_import_no_tensorflow():
    """A flow that only decides does not wait for TensorFlow's import."""
    imports = ", ".join(f"dcgan.quality.{name}" for name in WITHOUT_TENSORFLOW)
    code = f"import sys, {imports}; sys.exit(bool({{'tensorflow', 'keras'}} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(dcgan.__file__).parents[1], check=False).returncode == 0
    )

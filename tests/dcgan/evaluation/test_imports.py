"""What must work without TensorFlow."""

import subprocess
import sys
from pathlib import Path

import pytest

import dcgan

EVALUATION = ("evaluate", "features", "gate", "memorization", "metrics", "report")
WITHOUT_TENSORFLOW = [*(f"dcgan.evaluation.{name}" for name in EVALUATION), "dcgan.report.render"]


@pytest.mark.parametrize("module", WITHOUT_TENSORFLOW)
def test_metrics_reports_and_the_gate_import_no_tensorflow(module):
    """A flow that only decides or reports does not wait for the import of TensorFlow."""
    code = f"import sys, {module}; sys.exit(bool({{'tensorflow', 'keras'}} & set(sys.modules)))"
    checkout = Path(dcgan.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=checkout, check=False).returncode == 0

"""Bad input, wherever it enters: one sentence, the exit code, and nothing is written or changed.

The arguments are in test_cli.py; versions that do not exist or may not be used are with the flow that refuses them.
"""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.cli import invoke_and_assert

from dcgan.data.idx import TEST, TRAIN, idx_header
from flows.cli import main
from flows.generate import dcgan_generate
from flows.promote import dcgan_promote
from flows.train import dcgan
from tasks.sources import EXPECTED
from tests.faults.idx import BAD_IMAGES

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server", "state")]

IMAGES, LABELS, TEST_LABELS = (f"{file.name}.gz" for file in (TRAIN.images, TRAIN.labels, TEST.labels))
STORES = "expected a server's address, as http://HOST:PORT, or a database, as sqlite:///FILE."


@pytest.fixture
def names(tmp_path, free_port, small_folder) -> dict[str, str]:
    """Return the test's folder, a port on which nothing listens, and the folder of the small dataset."""
    return {"folder": str(tmp_path), "port": str(free_port), "digits": str(small_folder)}


@pytest.mark.parametrize(
    ("flow", "parameter", "reason"),
    [
        (dcgan, "recipe=slow", "'recipe'. Failure reason: 'slow' is not one of ['fast', 'classic', 'smoke']"),
        (dcgan, "epochs=0", "'epochs'. Failure reason: 0 is less than the minimum of 1"),
        (dcgan, "seed=-1", "'seed'. Failure reason: -1 is less than the minimum of 0"),
        (dcgan, "device=null", "'device'. Failure reason: None is not one of ['auto', 'cpu', 'gpu']"),
        (dcgan_promote, "version=0", "'version'. Failure reason: 0 is less than the minimum of 1"),
        (dcgan_generate, "count=0", "'count'. Failure reason: 0 is less than the minimum of 1"),
    ],
)
def test_deployment_parameters(flow, parameter, reason, unchanged, capsys):
    """`prefect deployment run` refuses the same values, from the schema of the flow's signature."""
    flow.to_deployment(name="deployed").apply()
    command = ["deployment", "run", f"{flow.name}/deployed", "--param", parameter]
    with unchanged():
        assert invoke_and_assert(command, expected_code=None).exit_code == 1
    written = capsys.readouterr()
    line = (written.err or written.out).strip().splitlines()[-1]
    assert line == f"Error creating flow run: Validation failed for field {reason}"


@pytest.fixture
def digits(small_folder, tmp_path) -> Path:
    """Return a copy of the small dataset, to damage."""
    return shutil.copytree(small_folder, tmp_path / "digits")


def write_labels(path: Path, labels: list[int]) -> None:
    """Write labels as a gzipped IDX file."""
    path.write_bytes(gzip.compress(idx_header(np.array(labels, np.uint8)) + bytes(labels)))


@pytest.mark.parametrize("fault", list(BAD_IMAGES)[:2])
def test_damaged_images(fault, digits, unchanged, error_line):
    """The file of images is named with the byte at which it is wrong."""
    content, sentence = BAD_IMAGES[fault]
    (digits / IMAGES).write_bytes(content)
    with unchanged():
        assert main(["train", "--source", str(digits)]) == 1
    error = error_line()
    assert error.startswith(f"{digits}/{IMAGES}: ")
    assert sentence in error


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(
            lambda folder: shutil.copy(folder / IMAGES, folder / LABELS),
            f"FOLDER/{LABELS}: byte 0: the file begins with 0x00000803; expected 0x00000801, IDX labels (unsigned "
            "bytes, rank 1).",
            id="images for labels",
        ),
        pytest.param(
            lambda folder: write_labels(folder / LABELS, [10] * 600),
            f"FOLDER/{LABELS}: byte 8: label 10; expected 0 to 9.",
            id="label 10",
        ),
        pytest.param(
            lambda folder: shutil.copy(folder / TEST_LABELS, folder / LABELS),
            f"FOLDER/{IMAGES} has 600 images but {LABELS} 100 labels; expected one label for each image.",
            id="different counts",
        ),
        pytest.param(
            lambda folder: (folder / LABELS).unlink(),
            f"FOLDER: neither {LABELS} nor {LABELS[:-3]} exists: no such file.",
            id="a file missing",
        ),
        pytest.param(
            shutil.rmtree, f"The source FOLDER is not a directory on this machine; expected {EXPECTED}.", id="no folder"
        ),
    ],
)
def test_damaged_data_sets(damage, sentence, digits, unchanged, error_line):
    """What is wrong with the four files together."""
    damage(digits)
    with unchanged():
        assert main(["train", "--source", str(digits)]) == 1
    assert error_line() == sentence.replace("FOLDER", str(digits))


@pytest.mark.parametrize(
    ("summary", "sentence"),
    [("file/summary.json", "cannot be written: "), ("", "cannot be written: it is a folder; expected the name of a ")],
    ids=["below a file", "a folder"],
)
def test_summaries(summary, sentence, small_folder, tmp_path, unchanged, error_line):
    """A summary that could not be written is refused before anything is trained."""
    (tmp_path / "file").write_text("a file")
    path = tmp_path / summary
    with unchanged():
        assert main(["train", "--recipe", "smoke", "--source", str(small_folder), "--summary", str(path)]) == 1
    assert error_line().startswith(f"{path}: {sentence}")


def test_a_state_folder_below_a_file(small_folder, tmp_path, monkeypatch, unchanged, error_line):
    """A state folder that cannot be created is named with the first folder that was to be written."""
    (tmp_path / "file").write_text("a file")
    monkeypatch.setenv("DCGAN_STATE", str(tmp_path / "file" / "state"))
    with unchanged():
        assert main(["train", "--recipe", "smoke", "--source", str(small_folder)]) == 1
    error = error_line()
    assert error.startswith(f"{tmp_path}/file/state/data/downloads/")
    assert error.endswith(": cannot be written: Not a directory.")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ftp://me:secret@h/x", f"The setting MLFLOW_TRACKING_URI is 'ftp://***@h/x'; {STORES}"),
        ("{folder}/mlruns", f"The setting MLFLOW_TRACKING_URI is '{{folder}}/mlruns'; {STORES}"),
        (
            "http://127.0.0.1:{port}",
            "The MLflow server http://127.0.0.1:{port} does not answer (Connection refused); "
            "expected a running server there, or no MLFLOW_TRACKING_URI for a local store.",
        ),
    ],
    ids=["FTP", "a folder", "no server"],
)
def test_addresses_of_mlflow(address, sentence, names, monkeypatch, unchanged, error_line):
    """An address that cannot be used is named, credentials masked; the data is prepared before MLflow is needed."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(**names))
    with unchanged("state/data"):
        assert main(["train", "--recipe", "smoke", "--source", names["digits"]]) == 1
    assert error_line() == sentence.format(**names)


@pytest.mark.parametrize(
    ("address", "reason"),
    [("http://127.0.0.1:{port}/api", "[Errno 111] Connection refused); expected a running server "), ("http://", "")],
    ids=["no server", "no host"],
)
def test_addresses_of_prefect(address, reason, names, unchanged, error_line):
    """An address that does not answer is named before anything is written."""
    url = address.format(**names)
    with unchanged(), temporary_settings({PREFECT_API_URL: url}):
        assert main(["train", "--recipe", "smoke", "--source", names["digits"]]) == 1
    assert error_line().startswith(f"The Prefect API {url} does not answer ({reason}")


def test_a_run_to_resume_that_does_not_exist(small_folder, unchanged, error_line):
    """An id that no run has is named."""
    run_id = "0" * 32
    with unchanged("state/data"):
        assert main(["train", "--recipe", "smoke", "--source", str(small_folder), "--resume", run_id]) == 1
    assert error_line() == f"There is no run {run_id} in the MLflow store; expected the id of a run."


def test_a_run_to_resume_that_is_finished(trained, small_folder, unchanged, error_line):
    """A run that is finished stays as it is."""
    run_id, arguments = trained.run.run_id, ["--recipe", "smoke", "--source", str(small_folder), "--seed", "7"]
    with unchanged():
        assert main(["train", *arguments, "--resume", run_id]) == 1
    assert error_line() == f"The run {run_id} is finished; expected an unfinished one to resume."


def test_a_version_where_none_is_registered(small_folder, unchanged, error_line):
    """An empty registry is as clear as one without that number."""
    with unchanged("state/data"):
        assert main(["evaluate", "--version", "1", "--source", str(small_folder)]) == 1
    sentence = "The model dcgan-generator has no version 1; expected the number of a version (none is registered in "
    assert error_line().startswith(sentence)

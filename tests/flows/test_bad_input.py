"""Bad input, wherever it enters: what a person reads, the exit code, and that nothing was written or changed."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dcgan.files import sha256_of_file
from flows import evaluate, generate, promote, train
from tasks.settings import read_settings
from tasks.sources import EXPECTED
from tests.faults.given import (
    IMAGES,
    LABELS,
    TEST_LABELS,
    Case,
    Place,
    asked,
    checkpoint,
    deployed,
    digits,
    flip,
    in_service,
    parquet,
    resumed,
    served,
    setting,
    typed,
    write_labels,
)
from tests.faults.idx import BAD_IMAGES
from tests.faults.parquet import BAD_COLUMNS, write_table
from tests.faults.web import FAULTS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

NO_RUN = "0" * 32
STORES = "expected a server's address, as http://HOST:PORT, or a database, as sqlite:///FILE."
USAGE = "unrecognized arguments: --epoch 3; see python -m flows.train --help."
ARGUMENTS = {
    "unknown recipe": (
        train,
        ["--recipe", "slow"],
        "--recipe: input should be 'fast', 'classic' or 'smoke', not 'slow'.",
    ),
    "no epochs": (train, ["--epochs", "0"], "--epochs: input should be greater than or equal to 1, not '0'."),
    "epochs in words": (train, ["--epochs", "ten"], "--epochs: input should be a valid integer, ..."),
    "epochs in part": (train, ["--epochs", "1.5"], "--epochs: input should be a valid integer, ..."),
    "negative seed": (train, ["--seed", "-1"], "--seed: input should be greater than or equal to 0, not '-1'."),
    "large seed": (train, ["--seed", str(2**31)], "--seed: input should be less than 2147483648, not '2147483648'."),
    "unknown device": (train, ["--device", "tpu"], "--device: input should be 'auto', 'cpu' or 'gpu', not 'tpu'."),
    "a path for a run": (train, ["--resume", "../x"], "--resume: string should match pattern ..."),
    "no source": (train, ["--source", ""], "--source: string should have at least 1 character, not ''."),
    "a source by ftp": (
        train,
        ["--source", "ftp://h/x"],
        f"--source: The source ftp://h/x cannot be used; expected {EXPECTED}.",
    ),
    "a source with a query": (
        train,
        ["--source", "https://h/x?token=1"],
        "--source: The source https://h/x?*** has a ...",
    ),
    "a source with a password": (
        train,
        ["--source", "https://me:secret@h/x"],
        "--source: The source https://***@h/x holds credentials, which Prefect would store; expected ...",
    ),
    "unknown promotion": (
        train,
        ["--promotion", "never"],
        "--promotion: input should be 'auto' or 'manual', not 'never'.",
    ),
    "unknown flag": (train, ["--epoch", "3"], f"error parsing CLI: {USAGE}"),
    "flag without value": (train, ["--recipe"], "error parsing CLI: argument --recipe: expected one argument; see ..."),
    "version 0": (evaluate, ["--version", "0"], "--version: input should be greater than or equal to 1, not '0'."),
    "a path for a version": (evaluate, ["--version", "../x"], "--version: ..."),
    "nothing to promote": (promote, [], "the command line: expected either --version with a number, or --rollback."),
    "promoting and rolling back": (promote, ["--version", "2", "--rollback"], "the command line: expected either ..."),
    "forced rollback": (
        promote,
        ["--rollback", "--force"],
        "the command line: --force goes with --version; a rollback ...",
    ),
    "an alias to promote": (promote, ["--version", "champion"], "--version: input should be a valid integer, ..."),
    "no pictures": (generate, ["--count", "0"], "--count: input should be greater than or equal to 1, not '0'."),
    "too many pictures": (
        generate,
        ["--count", "2000001"],
        "--count: input should be less than or equal to 2000000, ...",
    ),
}
DEPLOYED = {
    "unknown recipe": (
        train.dcgan,
        "recipe=slow",
        "'recipe'. Failure reason: 'slow' is not one of ['fast', 'classic', ...",
    ),
    "no epochs": (train.dcgan, "epochs=0", "'epochs'. Failure reason: 0 is less than the minimum of 1"),
    "negative seed": (train.dcgan, "seed=-1", "'seed'. Failure reason: -1 is less than the minimum of 0"),
    "device null": (train.dcgan, "device=null", "'device'. Failure reason: None is not one of ['auto', 'cpu', 'gpu']"),
    "version 0": (promote.dcgan_promote, "version=0", "'version'. Failure reason: 0 is less than the minimum of 1"),
    "no pictures": (generate.dcgan_generate, "count=0", "'count'. Failure reason: 0 is less than the minimum of 1"),
}


OTHERS = {
    "IDX: images for labels": (
        digits(lambda folder: shutil.copy(folder / IMAGES, folder / LABELS)),
        f"$folder/digits/{LABELS}: byte 0: the file begins with 0x00000803; expected 0x00000801, IDX labels ...",
    ),
    "IDX: label 10": (
        digits(lambda folder: write_labels(folder / LABELS, [10] * 600)),
        f"$folder/digits/{LABELS}: byte 8: label 10; expected 0 to 9.",
    ),
    "IDX: counts differ": (
        digits(lambda folder: shutil.copy(folder / TEST_LABELS, folder / LABELS)),
        "...600 images...100 labels...",
    ),
    "IDX: a file missing": (
        digits(lambda folder: (folder / LABELS).unlink()),
        f"$folder/digits: neither {LABELS} nor {LABELS[:-3]} is there: no such file.",
    ),
    "source: not there": (
        typed(train, "--source", "$folder/none"),
        "The source $folder/none is not a directory on this machine; expected auto, bundled, a directory, or a URL ...",
    ),
    "Parquet: a page": (
        parquet(lambda path: path.write_bytes(b"<html>" * 20)),
        "$folder/train.parquet: cannot be read as Parquet: ...",
    ),
    "Parquet: not there": (parquet(lambda _: None), "$folder/train.parquet: cannot be read as Parquet: ..."),
    "summary: below a file": (
        typed(train, "--recipe", "smoke", "--summary", "$file/summary.json"),
        "$file/summary.json: cannot be written: ...",
    ),
    "summary: a folder": (
        typed(train, "--recipe", "smoke", "--summary", "$folder"),
        "$folder: cannot be written: it is a folder; expected the name of a file.",
    ),
    "resume: not there": (
        typed(train, "--recipe", "smoke", "--source", "$small", "--resume", NO_RUN),
        f"There is no run {NO_RUN} in the MLflow store; expected the id of a run.",
        "state/data",
    ),
    "resume: finished": (resumed(7), "The run $run is finished; expected an unfinished one to resume."),
    "checkpoint: a flipped bit": (
        checkpoint(lambda folder: flip(folder / "arrays.npz")),
        "The checkpoint $folder/epoch-000002 is damaged: arrays.npz has the SHA-256 ...",
    ),
    "checkpoint: cut": (
        checkpoint(lambda folder: os.truncate(folder / "arrays.npz", 1000)),
        "The checkpoint $folder/epoch-000002 is damaged: arrays.npz has the SHA-256 ...",
    ),
    "checkpoint: empty": (
        checkpoint(lambda folder: os.truncate(folder / "checkpoint.json", 0)),
        "The checkpoint $folder/epoch-000002 is damaged: checkpoint.json has the SHA-256 ...",
    ),
    "checkpoint: not there": (
        checkpoint(shutil.rmtree),
        "The checkpoint $folder/epoch-000002 is incomplete or unreadable: ...",
    ),
    "setting: the state below a file": (
        setting("DCGAN_STATE", "$file/state"),
        "$file/state/data/downloads/...: cannot be written: Not a directory.",
    ),
    "setting: MLflow by ftp": (
        setting("MLFLOW_TRACKING_URI", "ftp://me:secret@h/x"),
        f"The setting MLFLOW_TRACKING_URI is 'ftp://***@h/x'; {STORES}",
        "state/data",
    ),
    "setting: MLflow in a folder": (
        setting("MLFLOW_TRACKING_URI", "$folder/mlruns"),
        f"The setting MLFLOW_TRACKING_URI is '$folder/mlruns'; {STORES}",
        "state/data",
    ),
    "setting: MLflow answered by nobody": (
        setting("MLFLOW_TRACKING_URI", "http://127.0.0.1:$port"),
        "The MLflow server http://127.0.0.1:$port does not answer ([Errno 111] Connection refused); expected ...",
        "state/data",
    ),
    "setting: Prefect answered by nobody": (
        setting("PREFECT_API_URL", "http://127.0.0.1:$port/api"),
        "The Prefect API http://127.0.0.1:$port/api does not answer ([Errno 111] Connection refused); expected ...",
    ),
    "setting: Prefect nowhere": (setting("PREFECT_API_URL", "http://"), "The Prefect API http:// does not answer (..."),
    "version: none registered": (
        typed(evaluate, "--version", "1", "--source", "$small"),
        "The model dcgan-generator has no version 1; expected the number of a version.",
        "state/data",
    ),
    "version: not there": (
        in_service(generate, "--version", "99"),
        "The model dcgan-generator has no version 99; expected the number of a version.",
    ),
    "version: no such alias": (
        in_service(generate, "--version", "nobody"),
        "The model dcgan-generator has no alias nobody; expected ...",
    ),
    "version: did not pass": (in_service(promote, "--version", "4"), "Version 4 did not pass the gate (..."),
    "version: no champion before": (
        in_service(promote, "--rollback"),
        "There is no previous champion to go back to; expected a promotion before a rollback.",
    ),
    "evaluation: too few images": (
        in_service(evaluate, "--version", "2", "--source", "$small"),
        "There are 600 training images; expected at least 1000.",
        "state/data",
    ),
    "out: an unknown form": (
        in_service(generate, "--out", "$folder/x.gif"),
        "$folder/x.gif: cannot be written; expected a folder, or a name in .png or .parquet.",
    ),
    "out: a folder in use": (
        in_service(generate, "--out", "$used"),
        "$used: exists; expected the name of a new folder, or an empty one.",
    ),
    "latents: of another size": (
        asked(np.zeros((1, 3), np.float32)),
        "...Shape of input (1, 3) does not match expected shape (-1, 100).",
    ),
}


def table() -> Iterator[tuple[str, Case]]:
    """Yield every case with its name."""
    for name, (command, arguments, sentence) in ARGUMENTS.items():
        yield f"arguments: {name}", Case(typed(command, *arguments), f"error: {sentence}", 2)
    for name, (flow, parameter, reason) in DEPLOYED.items():
        sentence = f"Error creating flow run: Validation failed for field {reason}"
        yield f"deployment: {name}", Case(deployed(flow, parameter), sentence)
    for name, (content, sentence) in BAD_IMAGES.items():
        spoilt = digits(lambda folder, content=content: (folder / IMAGES).write_bytes(content))
        yield f"IDX: {name}", Case(spoilt, f"error: $folder/digits/{IMAGES}: ...{sentence}...")
    for name, (_, _, sentence) in FAULTS.items():
        yield f"HTTP: {name}", Case(served(name), f"error: $web{sentence}...")
    for name, (columns, sentence) in BAD_COLUMNS.items():
        spoilt = parquet(lambda path, columns=columns: write_table(path, columns))
        yield f"Parquet: {name}", Case(spoilt, f"error: $folder/train.parquet: ...{sentence}")
    for name, (arranged, sentence, *rest) in OTHERS.items():
        yield name, Case(arranged, f"error: {sentence}", 1, *rest)


def written(folder: Path) -> dict[str, str]:
    """Return the digest of every file, by its path, Prefect's folder, MLflow's database and locks aside."""
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    kept = {path for path in files if "prefect" in path.parts or path.name == "mlflow.db" or path.suffix == ".lock"}
    return {str(path): sha256_of_file(folder / path) for path in files - kept}


def recorded() -> object:
    """Return what MLflow says of runs and of the model, None where there is no store."""
    from tasks.tracking.store import Store

    if (
        not (settings := read_settings()).tracking_uri.startswith("sqlite:")
        or not (settings.root / "mlflow.db").exists()
    ):
        return None
    store = Store(settings)
    runs = {run.info.run_id: run.to_dictionary() for run in store.client.search_runs([store.experiment_id])}
    return runs, [dict(model.aliases) for model in store.client.search_registered_models()]


@pytest.fixture
def place(request, state, tmp_path, small_folder) -> Place:
    """Return a folder with a file, a folder in use, and the address of nobody."""
    (tmp_path / "file").write_text("a file")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("a thesis")
    paths = {"folder": tmp_path, "file": tmp_path / "file", "used": tmp_path / "used", "small": small_folder}
    names = {name: str(path) for name, path in paths.items()}
    return Place(request, tmp_path, names | {"port": str(request.getfixturevalue("free_port"))})


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in table()])
def test_bad_input(case, place, capsys):
    """One sentence, the exit code, no traceback, and nothing written or changed."""
    give = case.arrange(place)
    files, records = written(place.folder), recorded()
    capsys.readouterr()
    assert give() == case.code
    said = capsys.readouterr()
    last = (said.err or said.out).strip().splitlines()[-1]
    assert re.fullmatch(re.escape(place.filled(case.sentence)).replace(r"\.\.\.", ".*"), last), last
    assert "Traceback" not in said.err
    after = written(place.folder)
    new = {path for path in after.keys() - files.keys() if case.keeps and path.startswith(case.keeps)}
    assert {path: after[path] for path in after.keys() - new} == files
    if records is not None:
        assert recorded() == records

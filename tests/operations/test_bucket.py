"""What a copy of the bucket refuses; the copy itself is proven beside the S3 server of the team stack."""

from pathlib import Path

import pytest

from dcgan.errors import ConfigurationError
from operations.bucket import main, path_in


@pytest.mark.parametrize("key", ["../other/file", "1/../../file", "/etc/file"])
def test_an_object_whose_name_leads_out_of_the_folder_is_refused(tmp_path: Path, key: str) -> None:
    """Whoever may write to the bucket cannot choose a file of the machine that makes the backup."""
    with pytest.raises(ConfigurationError, match="expected a relative path"):
        path_in(tmp_path, key)


def test_an_ordinary_object_is_in_the_folder(tmp_path: Path) -> None:
    """MLflow's own names become paths."""
    assert path_in(tmp_path, "artifacts/1/model..v2/data") == tmp_path / "artifacts" / "1" / "model..v2" / "data"


def test_without_a_bucket_nothing_is_copied(tmp_path: Path, monkeypatch, capsys) -> None:
    """One sentence names the variable."""
    monkeypatch.delenv("MLFLOW_ARTIFACTS_DESTINATION", raising=False)
    assert main(["save", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        "error: The setting MLFLOW_ARTIFACTS_DESTINATION is ''; expected a bucket, as s3://NAME.\n"
    )

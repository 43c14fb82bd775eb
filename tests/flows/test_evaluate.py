"""Evaluating as a flow and as a command."""

import pytest

from dcgan.evaluation.gate import Evaluation
from flows.cli import main
from flows.evaluate import dcgan_evaluate

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.mark.slow
def test_the_command_prints_metrics_and_verdict(in_service, tmp_path, capsys):
    """Exit code 0, the metrics, the verdict, how to promote, and all of it as JSON; nothing is promoted."""
    file = tmp_path / "summary.json"
    assert main(["evaluate", "--version", "2", "--source", str(in_service.folder), "--summary", str(file)]) == 0
    printed = capsys.readouterr().out
    lines = [line.split("  ") for line in printed.splitlines()]
    rows = {words[0]: [word.strip() for word in words[1:] if word] for words in lines}
    columns = list(in_service.better.columns("selection").values())[:3]
    assert rows["Fréchet distance"] == [str(report.frechet_distance) for report in columns]
    assert f"{in_service.better.verdict.reason} To promote it: dcgan promote --version 2\n" in printed
    assert Evaluation.model_validate_json(file.read_text()) == in_service.better
    assert in_service.aliases() == {"champion": 1}


def test_the_flow_takes_an_alias_and_returns_the_metrics(in_service):
    """By default the champion is evaluated, on the data that it was trained on."""
    evaluation = dcgan_evaluate()
    assert evaluation.candidate == in_service.champion.candidate
    assert evaluation.same_dataset


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        (
            "nobody",
            "The model dcgan-generator has no alias nobody; expected the number of a version (the newest in ",
        ),
        ("99", "The model dcgan-generator has no version 99; expected the number of a version (the newest in "),
    ],
)
def test_a_version_that_does_not_exist(version, sentence, in_service, unchanged, error_line):
    """Its name is in the sentence, with exit code 1, and nothing changes."""
    with unchanged("state/data"):
        assert main(["evaluate", "--version", version, "--source", str(in_service.folder)]) == 1
    assert error_line().startswith(sentence)
    assert in_service.aliases() == {"champion": 1}


def test_too_few_images(in_service, small_folder, unchanged, error_line):
    """A version cannot be evaluated with fewer than 1,000 images."""
    with unchanged("state/data"):
        assert main(["evaluate", "--version", "2", "--source", str(small_folder)]) == 1
    assert error_line() == "There are 600 training images; expected at least 1000."

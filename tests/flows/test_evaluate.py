"""Evaluating as a flow and as a command."""

import pytest

from flows.evaluate import dcgan_evaluate, main

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.mark.slow
def test_the_command_prints_figures_and_what_follows(in_service, capsys):
    """Exit code 0, the figures, the verdict, and how to promote; nothing is promoted."""
    assert main(["--version", "2", "--source", str(in_service.folder)]) == 0
    said = capsys.readouterr().out
    lines = [line.split("  ") for line in said.splitlines()]
    rows = {words[0]: [word.strip() for word in words[1:] if word] for words in lines}
    columns = list(in_service.better.columns("quality").values())[:3]
    assert rows["frechet distance"] == [str(report.frechet_distance) for report in columns]
    assert f"{in_service.better.verdict.reason} To promote it: python -m flows.promote --version 2\n" in said
    assert in_service.aliases() == {"champion": 1}


def test_the_flow_takes_an_alias_and_returns_the_figures(in_service):
    """By default the champion is evaluated."""
    evaluation = dcgan_evaluate(source=str(in_service.folder))
    assert evaluation.candidate == in_service.champion.candidate


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ["--version", "nobody"],
            1,
            "The model dcgan-generator has no alias nobody; expected the number of a version, ",
        ),
        (["--version", "99"], 1, "The model dcgan-generator has no version 99; expected the number of a version."),
        (["--version", "0"], 2, "--version: input should be greater than or equal to 1, not '0'."),
        (["--version", "../x"], 2, "--version: "),
        (
            ["--sauce", "x"],
            2,
            "error parsing CLI: unrecognized arguments: --sauce x; see python -m flows.evaluate --help.",
        ),
    ],
)
def test_bad_input_is_one_sentence(in_service, capsys, arguments, code, sentence):
    """A version that is not there ends with 1, arguments that cannot be with 2; nothing moves."""
    source = [] if "--sauce" in arguments else ["--source", str(in_service.folder)]
    assert main([*arguments, *source]) == code
    assert f"error: {sentence}" in capsys.readouterr().err
    assert in_service.aliases() == {"champion": 1}


def test_a_small_data_set_is_one_sentence(in_service, small_folder, capsys):
    """Fewer than 1,000 images cannot be evaluated with."""
    assert main(["--version", "2", "--source", str(small_folder)]) == 1
    assert "error: There are 600 training images; expected at least 1000.\n" in capsys.readouterr().err

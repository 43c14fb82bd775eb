"""Promoting by hand as a flow and as a command."""

import pytest

from dcgan.errors import ConfigurationError
from flows.cli import main
from flows.promote import dcgan_promote
from tasks.results import Promotion

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_version_that_passed_is_promoted_and_rolled_back(in_service, tmp_path, capsys):
    """Exit code 0, a sentence and a summary each; the aliases move as they should."""
    file = tmp_path / "summary.json"
    assert main(["promote", "--version", "2", "--summary", str(file)]) == 0
    reason = "Version 2 is the champion now; before, it was version 1."
    assert capsys.readouterr().out.endswith(f"{reason}\n")
    assert Promotion.model_validate_json(file.read_text()) == Promotion(version=2, promoted=True, reason=reason)
    assert in_service.aliases() == {"champion": 2, "previous": 1}
    assert main(["promote", "--rollback"]) == 0
    assert capsys.readouterr().out.endswith("Version 1 is the champion again; before, it was version 2.\n")
    assert in_service.aliases() == {"champion": 1, "previous": 2}


def test_a_crippled_version_is_promoted_only_by_force(in_service, unchanged, error_line):
    """It is refused with exit code 1 and the gate's reason; the flow with force promotes it and records that."""
    with unchanged():
        assert main(["promote", "--version", "4"]) == 1
    assert error_line().startswith("Version 4 did not pass the gate (")
    assert in_service.aliases() == {"champion": 1}
    assert dcgan_promote(version=4, force=True).promoted
    assert in_service.aliases() == {"champion": 4, "previous": 1}
    assert in_service.tags(4)["dcgan.forced"].startswith("Version 4 did not pass the gate (")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--version 99", "The model dcgan-generator has no version 99; expected the number of a version."),
        ("--rollback", "There is no previous champion to return to; expected a promotion before a rollback."),
    ],
)
def test_what_cannot_be_promoted(arguments, sentence, in_service, unchanged, error_line):
    """The sentence has exit code 1, and nothing changes."""
    with unchanged():
        assert main(["promote", *arguments.split()]) == 1
    assert error_line() == sentence
    assert in_service.aliases() == {"champion": 1}


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({}, r"^Expected either --version with a number, or --rollback\.$"),
        ({"version": 2, "rollback": True}, r"^Expected either --version with a number, or --rollback\.$"),
        ({"rollback": True, "force": True}, r"^--force goes with --version; a rollback does not need it\.$"),
    ],
)
def test_the_flow_refuses_what_the_command_refuses(parameters, sentence, in_service, unchanged):
    """A deployment's flow run fails with the sentence that the command has for such parameters."""
    with unchanged(), pytest.raises(ConfigurationError, match=sentence):
        dcgan_promote(**parameters)

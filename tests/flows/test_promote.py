"""Promoting by hand as a flow and as a command."""

import pytest
from pydantic import ValidationError

from flows.parameters import PromoteParameters
from flows.promote import dcgan_promote, main

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_version_that_passed_is_promoted_and_rolled_back(in_service, capsys):
    """Exit code 0 and a sentence each; the aliases move as they should."""
    assert main(["--version", "2"]) == 0
    assert capsys.readouterr().out.endswith("Version 2 is the champion now; before, it was version 1.\n")
    assert in_service.aliases() == {"champion": 2, "previous": 1}
    assert main(["--rollback"]) == 0
    assert capsys.readouterr().out.endswith("Version 1 is the champion again; before, it was version 2.\n")
    assert in_service.aliases() == {"champion": 1, "previous": 2}


def test_a_crippled_version_is_promoted_by_force_only(in_service, capsys):
    """Refused with 1 and the gate's reason; the flow with force moves it and records that."""
    assert main(["--version", "4"]) == 1
    assert "error: Version 4 did not pass the gate (" in capsys.readouterr().err
    assert in_service.aliases() == {"champion": 1}
    assert dcgan_promote(version=4, force=True).promoted
    assert in_service.aliases() == {"champion": 4, "previous": 1}
    assert in_service.tags(4)["dcgan.forced"].startswith("Version 4 did not pass the gate (")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "the command line: expected either --version with a number, or --rollback."),
        (["--version", "2", "--rollback"], 2, "the command line: expected either --version with a number, or "),
        (["--rollback", "--force"], 2, "the command line: --force goes with --version; a rollback needs none."),
        (["--version", "champion"], 2, "--version: input should be a valid integer, "),
        (["--version", "99"], 1, "The model dcgan-generator has no version 99; expected the number of a version."),
        (["--rollback"], 1, "There is no previous champion to go back to; expected a promotion before a rollback."),
    ],
)
def test_bad_input_is_one_sentence(in_service, capsys, arguments, code, sentence):
    """What cannot be done is said, and nothing moves."""
    assert main(arguments) == code
    assert f"error: {sentence}" in capsys.readouterr().err
    assert in_service.aliases() == {"champion": 1}


def test_prefects_form_refuses_what_the_command_refuses():
    """Neither a version nor a rollback: the model says so."""
    with pytest.raises(ValidationError, match="expected either --version with a number, or --rollback"):
        PromoteParameters()

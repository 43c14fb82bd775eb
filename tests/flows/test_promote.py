"""Promoting by hand as a flow and as a command."""

import logging
from contextlib import suppress

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort

import flows
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
    reason = "Version 1 is the champion again; before, it was version 2, to which another rollback returns."
    assert capsys.readouterr().out.endswith(f"{reason}\n")
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
        ("--version 99", "The model dcgan-generator has no version 99; expected the number of a version (the newest "),
        ("--rollback", "There is no previous champion to return to; expected a promotion before a rollback."),
    ],
)
def test_what_cannot_be_promoted(arguments, sentence, in_service, unchanged, error_line):
    """The sentence has exit code 1, and nothing changes."""
    with unchanged():
        assert main(["promote", *arguments.split()]) == 1
    assert error_line().startswith(sentence)
    assert in_service.aliases() == {"champion": 1}


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({}, r"^Expected one of the two: --version with a number, or --rollback\.$"),
        ({"version": 2, "rollback": True}, r"^Expected one of the two: --version with a number, or --rollback\.$"),
        (
            {"rollback": True, "force": True},
            r"^--force goes with --version; a rollback does not need it\.$",
        ),
    ],
)
def test_the_flow_refuses_what_the_command_refuses(parameters, sentence, in_service, unchanged, monkeypatch):
    """A deployment's flow run fails with the sentence that the command has for such parameters, and no traceback."""
    logger, logged, handler = logging.getLogger("prefect.flow_runs"), [], logging.Handler()
    handler.emit = logged.append
    monkeypatch.setattr(logger, "handlers", [handler])
    # not that of the command, which shows no failure of a flow run at all
    monkeypatch.setattr(logger, "filters", [each for each in logger.filters if each.__module__ == flows.__name__])
    with unchanged(), pytest.raises(ConfigurationError, match=sentence):
        dcgan_promote(**parameters)
    failures = [record for record in logged if record.levelno == logging.ERROR]
    assert failures
    assert [record.exc_info for record in failures if record.exc_info] == []


def test_a_flow_run_is_named_after_what_it_does(in_service):
    """Where neither is asked for, it is no rollback."""
    names = []
    with get_client(sync_client=True) as client:
        for parameters in ({"version": 2}, {"rollback": True}, {}):
            with suppress(ConfigurationError):
                dcgan_promote(**parameters)
            (newest, *_) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
            names.append(newest.name)
    assert names == ["promote-2", "roll-back", "promote"]

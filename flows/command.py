"""A flow as a command: flags in, one clear sentence when something is wrong, an exit code that says how it ended."""

import logging
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import httpx
from prefect.exceptions import TerminationSignal
from prefect.settings import PREFECT_API_URL
from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from dcgan.errors import ConfigurationError, DcganError
from flows.embedded import prefect_server
from tasks.sources import mask_credentials

C = TypeVar("C", bound=BaseModel)
F = TypeVar("F", bound="CommandFlags")

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
NOTHING_HALF_DONE = "Nothing is left half done."


class CommandFlags(BaseModel):
    """What every command can be told besides the parameters of its flow."""

    debug: bool = Field(False, description="show tracebacks")


def run_flow(
    model: type[F],
    program: str,
    arguments: list[str],
    body: Callable[[F], object],
    after_signal: str = NOTHING_HALF_DONE,
) -> int:
    """Run a flow's command and return its exit code.

    Args:
        model: the command's flags.
        program: what the user typed to get here.
        arguments: the rest.
        body: does the work.
        after_signal: what an interrupted user should know.
    """
    try:
        command = parse(model, program, arguments)
    except ConfigurationError as error:
        _say(f"error: {error}")
        return BAD_ARGUMENTS
    return run_command(lambda: body(command), debug=command.debug, after_signal=after_signal)


def parse(model: type[C], program: str, arguments: list[str]) -> C:
    """Return the parameters that a command line gives; `--help` prints them and exits.

    Raises:
        ConfigurationError: a flag is unknown, or a value is not what it should be.
    """

    class Command(BaseSettings, model):  # type: ignore[valid-type, misc]  # the model's fields as flags
        __doc__ = model.__doc__
        model_config = SettingsConfigDict(
            cli_prog_name=program,
            cli_kebab_case=True,
            cli_implicit_flags=True,
            cli_hide_none_type=True,
            cli_avoid_json=True,
            cli_exit_on_error=False,
        )

        @classmethod
        def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
            """Take nothing from the environment: a variable named SEED must not change a training."""
            return (sources["init_settings"],)

    try:
        return model.model_validate(CliApp.run(Command, cli_args=arguments).model_dump())
    except ValidationError as error:
        raise ConfigurationError(_sentence(error)) from None
    except SettingsError as error:
        raise ConfigurationError(f"{str(error).splitlines()[0].rstrip('.')}; see {program} --help.") from None


def run_command(body: Callable[[], object], *, debug: bool, after_signal: str = NOTHING_HALF_DONE) -> int:
    """Run a command's body and return its exit code; a failure is told in one sentence."""
    signal.signal(signal.SIGTERM, _raise_termination)
    _log_to_console(debug=debug)
    try:
        with prefect_server():
            body()
    except KeyboardInterrupt:
        _say(f"Interrupted. {after_signal}")
        return INTERRUPTED
    except TerminationSignal:
        _say(f"Terminated. {after_signal}")
        return TERMINATED
    except Exception as error:  # noqa: BLE001 - whatever went wrong, its user gets a sentence and an exit code
        if debug:
            traceback.print_exc()
        _say(f"error: {_told(error)}")
        return FAILED
    return DONE


def _told(error: Exception) -> str:
    """Return the sentence for what went wrong."""
    if isinstance(error, DcganError):
        return str(error)
    if isinstance(error, httpx.TransportError):
        return _without_prefect(error)
    if isinstance(error, OSError):  # a full disk, a folder that may not be written
        return f"{error.filename or 'A file'} cannot be used: {error.strerror or error}."
    return f"Unexpected {type(error).__name__}: {error}"


def _without_prefect(error: httpx.TransportError) -> str:
    """Return what to tell when Prefect stopped answering: what failed before that, if something did."""
    logging.disable()  # Prefect goes on for a while to say that it cannot reach its server
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, DcganError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return (
        f"The Prefect API {mask_credentials(str(PREFECT_API_URL.value()))} stopped answering ({error}), so it does not "
        "know how this flow run ended; MLflow has what was done."
    )


def _raise_termination(number: int, _frame: FrameType | None) -> None:
    raise TerminationSignal(signal=number)


def _log_to_console(*, debug: bool) -> None:
    """Show the library's log where Prefect shows its own, without the failures of flow and task runs.

    Those the command tells itself, in one sentence.
    """
    library = logging.getLogger("dcgan")
    library.setLevel(logging.INFO)
    for handler in logging.getLogger("prefect").handlers:
        library.addHandler(handler)
    if debug:
        return
    logging.raiseExceptions = False  # or Prefect tells each time that a log did not reach its server
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine", "prefect._internal.concurrency"):
        logging.getLogger(name).addFilter(_is_no_failure)


def _is_no_failure(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def _sentence(error: ValidationError) -> str:
    """Return the first thing that is wrong, by the name of its flag."""
    first = error.errors(include_url=False)[0]
    flag = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "the command line"
    if first["type"] == "value_error":  # this project's own sentence, which is whole
        return f"{flag}: {first['ctx']['error']}"
    return f"{flag}: {first['msg'][0].lower()}{first['msg'][1:]}, not {first['input']!r}."


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")

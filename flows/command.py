"""A flow as a command: flags in, one clear sentence when something is wrong, an exit code that says how it ended."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import httpx
from prefect.exceptions import TerminationSignal
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliApp, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from dcgan.errors import ConfigurationError, DcganError

C = TypeVar("C", bound=BaseModel)

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
ANSWER_SECONDS = 5.0


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


def run_command(body: Callable[[], object], *, debug: bool) -> int:
    """Run a command's body and return its exit code; a failure is told in one sentence."""
    signal.signal(signal.SIGTERM, _raise_termination)
    _log_to_console(debug=debug)
    try:
        _require_prefect()
        body()
    except DcganError as error:
        return _fail(str(error), debug=debug)
    except KeyboardInterrupt:
        return _interrupted("Interrupted", INTERRUPTED)
    except TerminationSignal:
        return _interrupted("Terminated", TERMINATED)
    except Exception as error:  # noqa: BLE001 - whatever went wrong, its user gets a sentence and an exit code
        return _fail(f"Unexpected {type(error).__name__}: {error}", debug=debug)
    return DONE


def _fail(sentence: str, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    _say(f"error: {sentence}")
    return FAILED


def _interrupted(how: str, code: int) -> int:
    _say(f"{how}. The training's state is saved after every epoch: the same command goes on from there.")
    return code


def _raise_termination(number: int, _frame: FrameType | None) -> None:
    raise TerminationSignal(signal=number)


def _require_prefect() -> None:
    """Raise at once when the Prefect API that the environment names does not answer: Prefect would retry for long."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return
    try:
        httpx.get(f"{url.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise ConfigurationError(
            f"The Prefect API {httpx.URL(url).copy_with(userinfo=b'')} does not answer ({reason}); "
            "expected a running server there, or no PREFECT_API_URL for an embedded one."
        ) from None


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
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_is_no_failure)


def _is_no_failure(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def _sentence(error: ValidationError) -> str:
    """Return the first thing that is wrong, by the name of its flag."""
    first = error.errors(include_url=False)[0]
    flag = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "the command line"
    return f"{flag}: {first['msg'][0].lower()}{first['msg'][1:]}, not {first['input']!r}."


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")

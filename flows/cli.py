"""The `dcgan` command: the flows and the operations as subcommands, with exit codes and one-sentence errors.

A flow's own signature and docstring are its command line: names, defaults, bounds and help.
"""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NamedTuple, NoReturn, get_type_hints

import httpx
from cyclopts import App, CycloptsError, Group, MissingArgumentError, Parameter, Token, UnusedCliTokensError
from cyclopts.validators import Number
from prefect import Flow
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.settings import PREFECT_API_URL
from pydantic import TypeAdapter, ValidationError

from dcgan.errors import ConfigurationError, DcganError, failure, invalid_value, mask_credentials
from dcgan.files import atomic_file, require_writable
from flows import evaluate, generate, promote, sweep, train
from flows.hyperparameters import with_recipe_files
from operations import deploy, env, ui
from operations.prefect_server import prefect_server
from operations.servers import DOCKER_POOL
from tasks.settings import quiet_imports

MAX_COMPARED = 8  # as many lines of a chart are told apart
DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


class Command(NamedTuple):
    """A flow as a subcommand.

    Attributes:
        flow: The flow.
        show: Prints its result.
        check: Refuses parameters that contradict one another.
        after_signal: Returns what an interrupted user should know, given the parameters.
    """

    flow: Flow[..., Any]
    show: Callable[[Any], None]
    check: Callable[..., object] = lambda **_: None
    after_signal: Callable[..., str] = lambda **_: "Nothing is left half done."


COMMANDS = {
    "train": Command(train.dcgan, train.show, train.resolved_recipe, train.after_signal),
    "sweep": Command(sweep.dcgan_sweep, sweep.show, sweep.check, sweep.after_signal),
    "evaluate": Command(evaluate.dcgan_evaluate, evaluate.show),
    "promote": Command(promote.dcgan_promote, promote.show, promote.check),
    "generate": Command(generate.dcgan_generate, generate.show, generate.check),
}


def _as_typed(_type: object, tokens: Sequence[Token]) -> str | None:
    """Return a value as the user typed it: pydantic converts and validates it, as it does for Prefect's form."""
    return None if tokens[-1].value == "null" else tokens[-1].value


FLOWS = Group("Flows", sort_key=1)
OPERATIONS = Group("Operations", sort_key=2)
app = App(name="dcgan", help="Train, evaluate, promote and run a DCGAN.", version=lambda: version("dcgan"))
for _position, (_name, _command) in enumerate(COMMANDS.items()):
    app.command(
        _command.flow.fn,
        name=_name,
        group=FLOWS,
        sort_key=_position,
        default_parameter=Parameter(negative=(), converter=_as_typed),
    )
app.register_install_completion_command(add_to_startup=False, help="Install shell completion.")


@app.command(name="ui", group=OPERATIONS)
def _ui() -> int:
    """Start Prefect's server, MLflow's server and a worker for each pool, until Ctrl-C."""
    return ui.main([])


@app.command(name="stack", group=OPERATIONS)
def _stack() -> NoReturn:
    """Start the team stack as processes: PostgreSQL, Redis, S3, a proxy, and several servers of Prefect and MLflow."""
    # in a process of its own, as the worker: it is the parent of everything that it starts
    os.execv(sys.executable, [sys.executable, "-m", "operations.stack"])  # noqa: S606 - this project's own module


@app.command(name="deploy", group=OPERATIONS)
def _deploy(
    *,
    notify: str | None = None,
    docker: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    kubernetes: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> int:
    """Create or update the work pools, deployments and automations on the running Prefect server.

    Args:
        notify: Block of Prefect's server that tells of failed runs and new champions, as slack-webhook/NAME.
        docker: Deploy to the work pool gpu-docker, whose flow runs are containers.
        kubernetes: Deploy to the work pool gpu-k8s, whose flow runs are Kubernetes jobs.
    """
    pools = [*(("--docker",) if docker else ()), *(("--kubernetes",) if kubernetes else ())]
    return deploy.main([*(("--notify", notify) if notify else ()), *pools])


@app.command(name="env", group=OPERATIONS)
def _env() -> int:
    """Print the settings of a shell that uses the servers of `dcgan ui`: eval "$(dcgan env)"."""
    return env.main([])


@app.command(name="worker", group=OPERATIONS)
def _worker(
    *,
    pool: str,
    name: str | None = None,
    with_healthcheck: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> NoReturn:
    """Start a worker that runs one flow run at a time.

    Args:
        pool: Work pool to take flow runs from, such as gpu; those of gpu-docker run in containers.
        name: Name of the worker; by default Prefect chooses one.
        with_healthcheck: Answer /health at port 8080 of 127.0.0.1, or the port of PREFECT_WORKER_WEBSERVER_PORT.
    """
    module = "operations.docker_worker" if pool == DOCKER_POOL else "operations.worker"
    if pool == DOCKER_POOL and find_spec("prefect_docker") is None:
        raise ConfigurationError(
            f"The pool {pool} needs prefect-docker, which is not installed: run 'make setup PRODUCTION=1'."
        )
    options = [
        "--pool",
        pool,
        *(["--name", name] if name else []),
        *(["--with-healthcheck"] if with_healthcheck else []),
    ]
    # in a process of its own: its worker takes the place of Prefect's in every process that imports it
    os.execv(sys.executable, [sys.executable, "-m", module, *options])  # noqa: S606 - this project's own module


@app.command(name="export", group=OPERATIONS)
def _export(out: Path, /, *, version: str = "champion") -> NoReturn:
    """Write a registered generator as a TensorFlow SavedModel and as an ONNX file.

    Args:
        out: Folder to write, which must not exist; TensorFlow Serving expects a number below the model's own folder.
        version: Number or alias of the version.
    """
    # in a process of its own: TensorFlow takes seconds to import, which no other operation should wait for
    os.execv(sys.executable, [sys.executable, "-m", "operations.export", "--version", version, str(out)])  # noqa: S606 - this project's own module


@app.command(name="compare", group=OPERATIONS, usage="Usage: dcgan compare [OPTIONS] RUN RUN...")
def _compare(*runs: str, output: Path | None = None) -> NoReturn:
    """Write a page that shows training runs beside each other: parameters, curves, metrics and samples.

    Args:
        runs: Id or name of an MLflow run, or number or alias of the version that it registered; two to eight of them.
        output: File to write, replaced where it exists; by default one in the folder comparisons of the state folder.
    """
    if not 2 <= len(runs) <= MAX_COMPARED:
        raise ConfigurationError(f"Expected 2 to {MAX_COMPARED} runs to compare, not {len(runs)}.")
    options = ["--output", str(output)] if output else []
    # in a process of its own, as the export: what reads the registry imports TensorFlow
    os.execv(sys.executable, [sys.executable, "-m", "operations.compare", *options, "--", *runs])  # noqa: S606 - this project's own module


@app.command(name="serve-artifacts", group=OPERATIONS)
def _serve_artifacts() -> NoReturn:
    """Put the artifacts of this machine's MLflow store behind its server, once, for clients on other machines."""
    # in a process of its own, as the export
    os.execv(sys.executable, [sys.executable, "-m", "operations.serve_artifacts"])  # noqa: S606 - this project's own module


@app.command(name="prune", group=OPERATIONS)
def _prune(
    *,
    delete: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    older_than: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
) -> NoReturn:
    """Show what nothing refers to any more and how large it is; with --delete, remove it.

    Args:
        delete: Remove it.
        older_than: Number of days: what belongs to runs that ended later is left alone.
    """
    options = [*(["--delete"] if delete else []), "--older-than", str(older_than)]
    # in a process of its own: MLflow takes seconds to import, which no other operation should wait for
    os.execv(sys.executable, [sys.executable, "-m", "operations.prune", *options])  # noqa: S606 - this project's own module


@app.meta.default
def _run(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    summary: Annotated[Path | None, Parameter(help="Write the flow's result as JSON into this file.")] = None,
    quiet: Annotated[
        bool, Parameter(help="Show the result, warnings and errors only.", negative=(), show_default=False)
    ] = False,
    debug: Annotated[bool, Parameter(help="Show tracebacks.", negative=(), show_default=False)] = False,
) -> int:
    function, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    command = next((each for each in COMMANDS.values() if each.flow.fn is function), None)
    if command is None:
        if _is_operation(tokens) and (summary or quiet or debug):
            _print_error(f"--summary, --quiet and --debug are options of the flows: {', '.join(COMMANDS)}.")
            return BAD_ARGUMENTS
        return int(function(*bound.args, **bound.kwargs) or DONE)
    parameters = _validated(command.flow, bound.arguments)
    command.check(**parameters)

    def body() -> None:
        if summary:
            require_writable(summary)
        result = command.flow(**parameters)
        if summary:
            with atomic_file(summary) as file:
                file.write_text(result.model_dump_json(indent=2), encoding="utf-8")
        command.show(result)

    return run_command(body, quiet=quiet, debug=debug, after_signal=command.after_signal(**parameters))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, by default those of the process, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a character that a terminal does not have is no reason to fail
            stream.reconfigure(errors="replace")
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _require_text(tokens)
        tokens = with_recipe_files(tokens)
        app.meta.group_parameters = Group("Options of every flow", sort_key=9, show=not _is_operation(tokens))
        return int(app.meta(tokens, exit_on_error=False, print_error=False, result_action="return_value") or DONE)
    except ConfigurationError as error:
        _print_error(str(error))
        return BAD_ARGUMENTS
    except CycloptsError as error:
        cause = error.__cause__
        _print_error(
            invalid_value(_flag(error), cause) if isinstance(cause, ValidationError) else _usage(error, tokens)
        )
        return BAD_ARGUMENTS
    except KeyboardInterrupt:  # of an operation: a flow says more
        sys.stderr.write("Interrupted.\n")
        return INTERRUPTED


def run_command(body: Callable[[], object], *, quiet: bool = False, debug: bool = False, after_signal: str) -> int:
    """Run a command's body beside a Prefect server and return its exit code; a failure is one sentence."""
    signal.signal(signal.SIGTERM, _raise_termination)
    _log_to_console(quiet=quiet, debug=debug)
    try:
        with prefect_server(meanwhile=_load_libraries):
            body()
    except KeyboardInterrupt:
        sys.stderr.write(f"Interrupted. {after_signal}\n")
        return INTERRUPTED
    except TerminationSignal:
        sys.stderr.write(f"Terminated. {after_signal}\n")
        return TERMINATED
    except Exception as error:  # noqa: BLE001 - whatever went wrong, its user gets a sentence and an exit code
        if debug:
            traceback.print_exc()
        _print_error(_reason(error))
        return FAILED
    return DONE


def _is_operation(tokens: Sequence[str]) -> bool:
    return bool(tokens) and tokens[0] in app and tokens[0] not in COMMANDS and not tokens[0].startswith("-")


def _require_text(tokens: Sequence[str]) -> None:
    """Refuse what is not UTF-8, such as a file's name from another system: MLflow's and Prefect's stores take no other.

    Raises:
        ConfigurationError: An argument is something else.
    """
    for token in tokens:
        try:
            token.encode()
        except UnicodeEncodeError:
            raise ConfigurationError(f"The argument {token!r} is not UTF-8; expected text in that encoding.") from None


def _load_libraries() -> None:
    """Import what every flow imports in its body, and what takes seconds."""
    with quiet_imports():
        for name in ("keras", "mlflow", "tensorflow"):
            import_module(name)


def _validated(flow: Flow[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a flow's parameters, converted.

    Raises:
        ConfigurationError: A value is not valid.
    """
    hints = get_type_hints(flow.fn, include_extras=True)
    parameters = {}
    for name, value in arguments.items():
        try:
            parameters[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            raise ConfigurationError(invalid_value(f"--{name.replace('_', '-')}", error)) from None
    return parameters


def _flag(error: CycloptsError) -> str:
    return error.argument.name if error.argument else "the command line"


def _usage(error: CycloptsError, tokens: list[str]) -> str:
    command = tokens[0] if tokens and tokens[0] in app else None
    return f"{_problem(error)} See dcgan {f'{command} ' if command else ''}--help."


def _problem(error: CycloptsError) -> str:
    """Return what is wrong with a command line."""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"Unexpected argument: {' '.join(error.unused_tokens)}."
    if isinstance(error, MissingArgumentError):
        error.command_chain = ()  # the sentence after this one names the command
    return str(error).strip()


def _reason(error: Exception) -> str:
    """Return the sentence for a failure."""
    if isinstance(error, DcganError | OSError):
        return failure(error)
    if isinstance(error, httpx.TransportError | httpx.HTTPStatusError | ObjectNotFound):
        return _without_prefect(error)
    return mask_credentials(f"Unexpected {type(error).__name__}: {error}")


def _without_prefect(error: httpx.HTTPError | ObjectNotFound) -> str:
    """Return the sentence for a Prefect server that fails: the failure before that, if there was one."""
    logging.disable()  # Prefect continues for a while to log that it cannot reach its server
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, DcganError):
            return failure(cause)
        cause = cause.__cause__ or cause.__context__
    return (
        f"The Prefect API {mask_credentials(str(PREFECT_API_URL.value()))} {_what_prefect_did(error)}, so it does not "
        "know how this flow run ended; MLflow has what was done."
    )


def _what_prefect_did(error: httpx.HTTPError | ObjectNotFound) -> str:
    if isinstance(error, ObjectNotFound):
        return "no longer has this flow run (was its database replaced?)"
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return "refuses PREFECT_API_AUTH_STRING"
        return (
            f"failed with HTTP {status}{' (is its disk full?)' if status >= httpx.codes.INTERNAL_SERVER_ERROR else ''}"
        )
    return f"stopped answering ({error})"


def _raise_termination(number: int, _frame: FrameType | None) -> None:
    raise TerminationSignal(signal=number)


def _log_to_console(*, quiet: bool, debug: bool) -> None:
    """Show the library's log where Prefect shows its own, without the failures of flow and task runs.

    The command itself reports those, in one sentence.
    """
    library, prefect = logging.getLogger("dcgan"), logging.getLogger("prefect")
    for handler in prefect.handlers:
        library.addHandler(handler)
    if quiet:
        for log in (library, prefect):
            log.setLevel(logging.WARNING)
    if debug:
        return
    logging.raiseExceptions = False  # or Prefect prints each time that a log did not reach its server
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine", "prefect._internal.concurrency"):
        logging.getLogger(name).addFilter(_is_not_failure)


def _is_not_failure(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR and not str(record.msg).startswith("Finished in state Failed")


def _print_error(text: str) -> None:
    sys.stderr.write(f"error: {text}\n")


if __name__ == "__main__":
    sys.exit(main())

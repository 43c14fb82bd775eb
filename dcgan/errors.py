"""User-fixable errors: each message is one sentence that says what, where, and what was expected."""

import re

from pydantic import ValidationError


class DcganError(Exception):
    """Base class of every error that this project raises on purpose; its text can be shown without a traceback."""


class DataError(DcganError):
    """A data file or a data source is not what was expected."""


class NetworkError(DataError):
    """The network or a server failed in a way that may pass, so a retry is worthwhile."""


class CheckpointError(DcganError):
    """A checkpoint is damaged, incomplete, or belongs to another configuration."""


class DeviceError(DcganError):
    """The requested device does not exist."""


class TrainingDivergedError(DcganError):
    """A loss or a weight is no longer finite."""


class TrackingError(DcganError):
    """The MLflow store does not answer, or holds something other than expected."""


class UnavailableError(TrackingError):
    """The MLflow store does not answer, or fails in a way that may pass, so a retry is worthwhile."""


class ModelError(DcganError):
    """A registered or saved model is not the expected generator."""


class ConfigurationError(DcganError):
    """A parameter, a setting or an address is unusable."""


class SweepError(DcganError):
    """No trial of a sweep finished, Prefect refuses one, or the sweep's record cannot be used."""


class LeaseLostError(DcganError):
    """Another process has taken over the MLflow run.

    Args:
        message: The sentence to show.
        same_flow_run: Whether the other process runs the same Prefect flow run.
    """

    def __init__(self, message: str, *, same_flow_run: bool = False) -> None:
        super().__init__(message)
        self.same_flow_run = same_flow_run


def failure(error: DcganError | OSError) -> str:
    """Return the sentence about a failure that its user can mend, without credentials."""
    if isinstance(error, DcganError):
        return mask_credentials(str(error))
    return f"{error.filename or 'A file'} cannot be used: {error.strerror or error}."  # a full disk, a closed folder


def mask_credentials(text: str) -> str:
    """Return `text` with the user, password and query of every URL replaced by ***."""
    masked = re.sub(r"(?<=://)(?!/)[^\s]*@", "***@", text)  # a third slash begins a path, which has neither
    return re.sub(r"(://[^\s?#]*)[?#][^\s]*", r"\1?***", masked)


def invalid_value(name: str, error: ValidationError) -> str:
    """Return what is wrong with the value called `name`; where it may have one of several types, why it has none."""
    problems = error.errors(include_url=False)
    if problems[0]["type"] == "value_error":  # this project's own sentence, which is complete
        return f"{name}: {problems[0]['ctx']['error']}"
    typed = problems[0]["input"]
    reasons = ", or ".join(f"{problem['msg'][0].lower()}{problem['msg'][1:]}" for problem in problems)
    return f"{name}: {reasons}, not {'null' if typed is None else repr(typed)}."


def first_problem(error: ValidationError, whole: str) -> str:
    """Return where a JSON file is not what was expected, and why; `whole` is its name, should all of it be wrong."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg']}"

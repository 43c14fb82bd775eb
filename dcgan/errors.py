"""Failures that a person can mend: each message is one sentence that says what, where, and what was expected."""


class DcganError(Exception):
    """Base of every error that this project raises on purpose; `str()` of it is fit to be shown without a traceback."""


class DataError(DcganError):
    """A data file or a source of data is not what it should be."""


class CheckpointError(DcganError):
    """A checkpoint is damaged, incomplete, or belongs to another configuration."""


class DeviceError(DcganError):
    """The device that was asked for is not there."""


class TrainingDivergedError(DcganError):
    """A loss stopped being finite."""


class TrackingError(DcganError):
    """The MLflow store does not answer, or holds something else than was expected."""


class ModelError(DcganError):
    """A registered or saved model is not the generator that it should be."""


class ConfigurationError(DcganError):
    """A parameter, a setting or an address is unusable."""


class LeaseLostError(DcganError):
    """Another process has taken the run over.

    Args:
        message: the sentence.
        same_flow_run: whether that process goes on with this one's flow run.
    """

    def __init__(self, message: str, *, same_flow_run: bool = False) -> None:
        super().__init__(message)
        self.same_flow_run = same_flow_run

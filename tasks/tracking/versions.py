"""The versions of the registered generator: found by number or alias, tagged, and moved into service by alias."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

from dcgan.errors import ModelError
from tasks.tracking.store import MODEL_NAME, Store, translated_errors

SEED = "dcgan.seed"
CHAMPION = "champion"
PREVIOUS = "previous"
CHALLENGER = "challenger"

# what MLflow answers for a model, a version, or an alias that does not exist
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class Version(BaseModel):
    """A registered version."""

    model_config = ConfigDict(frozen=True)

    number: int
    run_id: str | None
    tags: Mapping[str, str] = MappingProxyType({})

    @property
    def seed(self) -> int:
        """The seed of its training; 0 where it does not say."""
        tag = self.tags.get(SEED, "")
        return int(tag) if tag.isdecimal() else 0


def resolve(store: Store, name: int | str) -> Version:
    """Return the version that a number or an alias names.

    Raises:
        ModelError: there is none.
        TrackingError: the store failed.
    """
    if isinstance(name, int) or name.isdigit():
        found = _get(store, int(name))
        expected = "the number of a version"
    else:
        found = aliased(store, name)
        expected = "the number of a version, or an alias that one has"
    if found is None:
        what = "version" if isinstance(name, int) or name.isdigit() else "alias"
        raise ModelError(f"The model {MODEL_NAME} has no {what} {name}; expected {expected}.")
    return found


def aliased(store: Store, alias: str) -> Version | None:
    """Return the version that has an alias, None when none has it."""
    with translated_errors(store.uri):
        try:
            return _version(store.client.get_model_version_by_alias(MODEL_NAME, alias))
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise


def tag_version(store: Store, number: int, tags: Mapping[str, str]) -> None:
    """Set tags of a version, in their order."""
    with translated_errors(store.uri):
        for name, value in tags.items():
            store.client.set_model_version_tag(MODEL_NAME, str(number), name, value)


def crown(store: Store, number: int) -> None:
    """Make a version the champion, and the former one `previous`.

    The former champion gets its alias first: killed in between, the champion is still the former one, and nothing that
    `previous` should name is lost.
    """
    former = aliased(store, CHAMPION)
    if former and former.number != number:
        set_alias(store, PREVIOUS, former.number)
    set_alias(store, CHAMPION, number)
    challenger = aliased(store, CHALLENGER)
    if challenger and challenger.number == number:
        with translated_errors(store.uri):
            store.client.delete_registered_model_alias(MODEL_NAME, CHALLENGER)


def exchange(store: Store, champion: Version, previous: Version) -> None:
    """Make `previous` the champion again, and the champion `previous`.

    The champion moves first: killed in between, the wanted one is in service.
    """
    set_alias(store, CHAMPION, previous.number)
    set_alias(store, PREVIOUS, champion.number)


def set_alias(store: Store, alias: str, number: int) -> None:
    """Move an alias to a version; MLflow does it in one step."""
    with translated_errors(store.uri):
        store.client.set_registered_model_alias(MODEL_NAME, alias, str(number))


def _get(store: Store, number: int) -> Version | None:
    with translated_errors(store.uri):
        try:
            return _version(store.client.get_model_version(MODEL_NAME, str(number)))
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise


def _version(found: Any) -> Version:
    return Version(number=int(found.version), run_id=found.run_id or None, tags=found.tags)

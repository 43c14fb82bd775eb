"""Things in MLflow that exist exactly once after they were created, also where the reply got lost.

A server commits before it replies, and MLflow's client repeats a request whose reply it did not get: then there are two
runs or two versions, of which only the second is known. Whatever is created carries a tag of its own, by which it is
found afterwards.
"""

from collections.abc import Callable
from uuid import uuid4

from mlflow.exceptions import MlflowException

from dcgan.errors import TrackingError
from tracking.store import tolerated_absence
from tracking.tags import CREATION


def create_once(
    create: Callable[[dict[str, str]], str],
    find: Callable[[str], list[str]],
    remove: Callable[[str], object],
) -> str:
    """Return the name of what was created, after removing whatever a repeated request made besides.

    Args:
        create: Creates it with the given tag, and returns its name.
        find: Returns the names of all that match a filter of MLflow's searches.
        remove: Removes the one with this name.

    Raises:
        MlflowException: It was not created.
    """
    token = uuid4().hex
    failure: MlflowException | OSError | None = None
    created = ""
    try:
        created = create({CREATION: token})
    except (MlflowException, OSError) as error:
        failure = error
    found = find(f"tags.`{CREATION}` = '{token}'")
    if not found:
        raise failure or TrackingError("MLflow does not find what it has just created.")
    kept = created if created in found else found[0]
    for name in found:
        if name != kept:
            with tolerated_absence():
                remove(name)
    return kept

"""The last trial: a promotion that is killed between its two aliases, and repeated."""

import sqlite3
import time
from contextlib import closing

from benchmarks.chaos_moments import EPOCHS, between_aliases
from benchmarks.chaos_training import Command, Place, training
from benchmarks.chaos_trial import ATTEMPTS, SAME, Death, Trial


def try_promotion(number: int, place: Place) -> Trial:
    """Promote one of two versions while the other is in service, be killed in the middle, and promote it again.

    Args:
        number: of the trial.
        place: where one training is finished; another is made there.
    """
    codes = [training(place, "never").finish(), _promote(place, 1).finish()]
    if codes != [0, 0]:
        return Trial(number, [], [], "", f"exit codes {codes}: {place.log.read_text().splitlines()[-1]}")
    for attempt in range(ATTEMPTS):
        champion, candidate = (1, 2) if attempt % 2 == 0 else (2, 1)
        moment = between_aliases(champion)
        command = _promote(place, candidate)
        if command.kill_at(moment, server_too=False):
            death = Death(moment.name, EPOCHS, round(time.time() - command.began, 2))
            verdict = _repeat(place, champion, candidate)
            return Trial(number, [moment.name], [death], "the promotion", verdict)
    return Trial(number, [moment.name], [], "", f"not hit in {ATTEMPTS} attempts")


def _promote(place: Place, version: int) -> Command:
    return Command(place, ("flows.promote", "--version", str(version), "--force"))


def _repeat(place: Place, champion: int, candidate: int) -> str:
    """Return the verdict: the former champion was in service all the time, and the candidate is at the end."""
    killed = _aliases(place)
    code = _promote(place, candidate).finish()
    repeated = _aliases(place)
    expected = {"champion": candidate, "previous": champion}
    if code == 0 and killed["champion"] == champion and repeated == expected:
        return SAME
    return f"exit code {code}, {killed} when killed, then {repeated} instead of {expected}"


def _aliases(place: Place) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{place.state / 'mlflow.db'}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT alias, version FROM registered_model_aliases").fetchall())

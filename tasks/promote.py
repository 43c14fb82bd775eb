"""The promotion tasks: which version is the champion, the previous one, or a challenger that waits."""

from typing import TYPE_CHECKING

from prefect import task

from dcgan.errors import ModelError
from tasks.evaluation import Evaluation
from tasks.promotion import Mode, Promotion
from tasks.settings import read_settings

if TYPE_CHECKING:
    from tasks.tracking.versions import Version

PROMOTED_BY = "dcgan.promoted_by"
FORCED = "dcgan.forced"


@task
def promote_candidate(evaluation: Evaluation, mode: Mode) -> Promotion:
    """Make a candidate the champion if it passed the gate; `manual` makes it the challenger and says how to go on.

    Raises:
        ModelError: another process has changed the champion since the evaluation, or the candidate has been damaged.
    """
    from tasks.tracking import versions
    from tasks.tracking.generators import require_generator
    from tasks.tracking.store import Store

    store = Store(read_settings())
    number, verdict = evaluation.candidate.version, evaluation.verdict
    champion = versions.aliased(store, versions.CHAMPION)
    promoted = champion is not None and champion.number == number
    if not promoted and verdict and verdict.passed:
        if mode == "auto":
            _require_unchanged(evaluation, champion)
            require_generator(store, versions.resolve(store, number))
            versions.tag_version(store, number, {PROMOTED_BY: "gate"})
            versions.crown(store, number)
            promoted = True
        else:
            versions.set_alias(store, versions.CHALLENGER, number)
    reason = f"{verdict.reason if verdict else ''} {_outcome(evaluation, champion, promoted=promoted)}".strip()
    return Promotion(version=number, promoted=promoted, reason=reason, figures=evaluation.candidate.metrics()).told()


@task
def promote_version(number: int, *, force: bool) -> Promotion:
    """Make a version the champion by hand.

    Args:
        number: the version.
        force: also without a verdict that allows it; what spoke against it becomes a tag.

    Raises:
        ModelError: there is no such version, it is not a whole generator, or its verdict does not allow it.
    """
    from tasks.tracking import versions
    from tasks.tracking.generators import require_generator
    from tasks.tracking.store import Store

    store = Store(read_settings())
    version, champion = versions.resolve(store, number), versions.aliased(store, versions.CHAMPION)
    require_generator(store, version)
    if champion and champion.number == number:
        return Promotion(version=number, promoted=True, reason=f"Version {number} is the champion already.").told()
    objection = _objection(version, champion)
    if objection and not force:
        raise ModelError(f"{objection}; expected one that passed beside the present champion, or --force.")
    forced = {FORCED: objection} if objection else {}
    versions.tag_version(store, number, {**forced, PROMOTED_BY: "force" if objection else "hand"})
    versions.crown(store, number)
    reason = f"Version {number} is the champion now; before, it was {_name(champion)}."
    return Promotion(version=number, promoted=True, reason=reason).told()


@task
def roll_back() -> Promotion:
    """Make the previous champion the champion again, and the present one the previous.

    Raises:
        ModelError: there is no previous champion, or it is not a whole generator.
    """
    from tasks.tracking import versions
    from tasks.tracking.generators import require_generator
    from tasks.tracking.store import Store

    store = Store(read_settings())
    champion, previous = (versions.aliased(store, alias) for alias in (versions.CHAMPION, versions.PREVIOUS))
    if champion is None or previous is None or champion.number == previous.number:
        raise ModelError("There is no previous champion to go back to; expected a promotion before a rollback.")
    require_generator(store, previous)
    versions.tag_version(store, previous.number, {PROMOTED_BY: "rollback"})
    versions.exchange(store, champion, previous)
    reason = f"Version {previous.number} is the champion again; before, it was {_name(champion)}."
    return Promotion(version=previous.number, promoted=True, reason=reason).told()


def _require_unchanged(evaluation: Evaluation, champion: "Version | None") -> None:
    if (champion.number if champion else None) != evaluation.champion_version:
        raise ModelError(
            f"The champion became {_name(champion)} while version {evaluation.candidate.version} was evaluated beside "
            f"{evaluation.champion_version or 'none'}; expected the same champion: evaluate it again."
        )


def _outcome(evaluation: Evaluation, champion: "Version | None", *, promoted: bool) -> str:
    number = evaluation.candidate.version
    if promoted:
        return f"Version {number} is the champion now."
    if evaluation.verdict and evaluation.verdict.passed:
        return f"Version {number} waits as the challenger: python -m flows.promote --version {number} promotes it."
    return f"Version {champion.number} stays the champion." if champion else "There is still no champion."


def _objection(version: "Version", champion: "Version | None") -> str | None:
    """Return what speaks against promoting a version, None when nothing does."""
    from tasks.tracking.quality import NOBODY, PASSED, VERDICT, VERDICT_CHAMPION, VERDICT_REASON

    verdict, rival = version.tags.get(VERDICT), version.tags.get(VERDICT_CHAMPION)
    if verdict is None:
        return (
            f"Version {version.number} has no verdict (python -m flows.evaluate --version {version.number} gives one)"
        )
    if verdict != PASSED:
        reason = version.tags.get(VERDICT_REASON, "").rstrip(".")
        return f"Version {version.number} did not pass the gate ({reason})"
    if rival != (str(champion.number) if champion else NOBODY):
        return f"Version {version.number} was compared with another champion than {_name(champion)}"
    return None


def _name(champion: "Version | None") -> str:
    return f"version {champion.number}" if champion else "none"

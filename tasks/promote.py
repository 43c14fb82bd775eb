"""The promotion tasks: which version is the champion, the previous one, or a challenger that waits."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE

from dcgan.errors import ConfigurationError, ModelError
from dcgan.evaluation.gate import Evaluation
from dcgan.files import exclusive_lock
from tasks.context import Context
from tasks.prefect_ui import announce_champion, publish_promotion
from tasks.results import Promotion, PromotionMode
from tasks.retries import recording_task
from tasks.settings import Settings
from tracking import registry
from tracking.lease import Lease
from tracking.registry import Version
from tracking.runs import describe_result
from tracking.store import Store
from tracking.tags import (
    CHALLENGER,
    CHAMPION,
    DATASET_DIGEST,
    DATASET_SOURCE,
    FORCED,
    NO_CHAMPION,
    PASSED,
    PREVIOUS,
    PROMOTED_BY,
    VERDICT,
    VERDICT_CHAMPION,
    VERDICT_REASON,
)

logger = logging.getLogger("dcgan.promote")


@contextmanager
def promotion_lock(settings: Settings) -> Iterator[None]:
    """Let one evaluation with its promotion run at a time on this machine, each beside the current champion.

    Promotions from other machines are noticed when an alias is about to move.
    """
    path = settings.root / "promotion.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(path, timeout_seconds=0))
        except ConfigurationError:  # another process has the lock
            logger.info("Waiting for another process that evaluates or promotes a version.")
            stack.enter_context(exclusive_lock(path))
        yield


@recording_task
def promote_candidate(
    context: Context, evaluation: Evaluation, mode: PromotionMode, lease: Lease | None = None
) -> Promotion:
    """Make a candidate the champion if it passed the gate; `manual` makes it the challenger instead.

    The champion of other data stays until somebody says otherwise.

    Args:
        context: Settings and store.
        evaluation: The evaluation of the candidate.
        mode: `auto` or `manual`.
        lease: The lease on the training run that asks for it.

    Raises:
        ModelError: Another process has changed the champion since the evaluation, or the candidate has been damaged.
        LeaseLostError: Another process has taken over the training run.
    """
    if lease:
        lease.require()
    store = context.store
    number, verdict = evaluation.candidate.version, evaluation.verdict
    candidate, champion = registry.resolve(store, number), registry.aliased(store, CHAMPION)
    promoted = champion is not None and champion.number == number
    if not promoted and verdict and verdict.passed:
        if mode == "auto" and not _is_of_other_data(candidate, champion):
            registry.require_generator(store, candidate)
            # directly before the alias moves: to download the candidate's files takes a while
            if lease:
                lease.require()
            _require_unchanged(evaluation, registry.aliased(store, CHAMPION))
            promoted = True
        else:
            registry.set_alias(store, CHALLENGER, number)
    # also where an earlier attempt moved the alias and was interrupted before all was done and announced
    changed = promoted and verdict is not None and verdict.passed
    if changed:
        with _tagged(store, number, "gate"):
            registry.set_champion(store, number, evaluation.champion_version)
    outcome = _outcome(evaluation, candidate, champion, promoted=promoted)
    reason = f"{verdict.reason if verdict else ''} {outcome}".strip()
    promotion = Promotion(version=number, promoted=promoted, reason=reason, metrics=evaluation.candidate.metrics())
    return _published(store, promotion, changed=changed)


@recording_task
def describe(context: Context, run_id: str, promotion: Promotion) -> None:
    """Describe what came of a training run on its page in MLflow."""
    describe_result(context.store, run_id, promotion.version, promotion.reason, evaluated=bool(promotion.metrics))


@task(cache_policy=NO_CACHE)
def promote_version(context: Context, number: int, *, force: bool) -> Promotion:
    """Make a version the champion by hand.

    Args:
        context: Settings and store.
        number: Number of the version.
        force: Promote it also without a verdict that allows it; the reason against it becomes a tag.

    Raises:
        ModelError: There is no such version, it is not a complete generator, or its verdict does not allow it.
    """
    store = context.store
    registry.require_generator(store, registry.resolve(store, number))
    # only now: to download the files takes a while, in which another verdict or champion may have come
    version, champion = registry.resolve(store, number), registry.aliased(store, CHAMPION)
    if champion and champion.number == number:
        reason = f"Version {number} is the champion already."
        return _published(store, Promotion(version=number, promoted=True, reason=reason), changed=False)
    rejected = rejection_reason(version, champion)
    if rejected and not force:
        raise ModelError(f"{rejected}; expected one that passed beside the current champion, or --force.")
    with _tagged(store, number, "force" if rejected else "hand", rejected):
        registry.set_champion(store, number, champion.number if champion else None)
    reason = f"Version {number} is the champion now; before, it was {_name(champion)}."
    return _published(store, Promotion(version=number, promoted=True, reason=reason), changed=True)


@task(cache_policy=NO_CACHE)
def roll_back(context: Context) -> Promotion:
    """Make the previous champion the champion again, and the current one the previous.

    Raises:
        ModelError: There is no previous champion, it is not a complete generator, or another process has changed the
            champion meanwhile.
    """
    store = context.store
    champion, previous = _champions(store)
    if champion is None or previous is None or champion.number == previous.number:
        raise ModelError("There is no previous champion to return to; expected a promotion before a rollback.")
    registry.require_generator(store, previous)
    if [each and each.number for each in _champions(store)] != [champion.number, previous.number]:
        raise ModelError("The champion changed meanwhile; expected the same one: ask for the rollback again.")
    with _tagged(store, previous.number, "rollback", previous.tags.get(FORCED)):
        registry.swap_champion(store, champion, previous)
    reason = (
        f"Version {previous.number} is the champion again; before, it was {_name(champion)}, to which another rollback "
        "returns."
    )
    return _published(store, Promotion(version=previous.number, promoted=True, reason=reason), changed=True)


def rejection_reason(version: Version, champion: Version | None) -> str | None:
    """Return why the gate does not allow a promotion, None when it does."""
    verdict, rival = version.tags.get(VERDICT), version.tags.get(VERDICT_CHAMPION)
    if verdict is None:
        return f"Version {version.number} has no verdict (dcgan evaluate --version {version.number} gives it one)"
    if verdict != PASSED:
        reason = version.tags.get(VERDICT_REASON, "").rstrip(".")
        return f"Version {version.number} did not pass the gate ({reason})"
    if rival != (str(champion.number) if champion else NO_CHAMPION):
        return f"Version {version.number} was compared with another champion than {_name(champion)}"
    return None


@contextmanager
def _tagged(store: Store, number: int, by: str, rejected: str | None = None) -> Iterator[None]:
    """Tag a version that the body promotes with who does so, and with what was against it, if that was overruled.

    The tags come first: a champion has them, whenever the process is killed. A version that is refused loses them.
    """
    if rejected:
        registry.tag_version(store, number, {FORCED: rejected, PROMOTED_BY: by})
    else:
        registry.untag_version(store, number, FORCED)
        registry.tag_version(store, number, {PROMOTED_BY: by})
    try:
        yield
    except ModelError:
        for name in (PROMOTED_BY, FORCED):
            registry.untag_version(store, number, name)
        raise


def _champions(store: Store) -> tuple[Version | None, Version | None]:
    """Return the champion and the previous one."""
    return registry.aliased(store, CHAMPION), registry.aliased(store, PREVIOUS)


def _published(store: Store, promotion: Promotion, *, changed: bool) -> Promotion:
    logger.info(promotion.reason)
    publish_promotion(promotion)
    if changed:
        announce_champion(promotion.version, promotion.reason, store.version_url(promotion.version))
    return promotion


def _require_unchanged(evaluation: Evaluation, champion: Version | None) -> None:
    if (champion.number if champion else None) != evaluation.champion_version:
        raise ModelError(
            f"The champion became {_name(champion)} while version {evaluation.candidate.version} was evaluated beside "
            f"{evaluation.champion_version or 'none'}; expected the same champion: evaluate it again."
        )


def _is_of_other_data(candidate: Version, champion: Version | None) -> bool:
    """Return whether the data of two versions differ, and not because those at one address have been renewed."""
    if champion is None:
        return False
    pairs = [[version.tags.get(tag) for version in (candidate, champion)] for tag in (DATASET_DIGEST, DATASET_SOURCE)]
    return all(here and there and here != there for here, there in pairs)


def _outcome(evaluation: Evaluation, candidate: Version, champion: Version | None, *, promoted: bool) -> str:
    number = candidate.number
    if promoted:
        return f"Version {number} is the champion now."
    if evaluation.verdict and evaluation.verdict.passed:
        other = "The champion was trained on other data. " if _is_of_other_data(candidate, champion) else ""
        return f"{other}Version {number} waits as the challenger: dcgan promote --version {number} promotes it."
    return f"Version {champion.number} remains the champion." if champion else "There is still no champion."


def _name(champion: Version | None) -> str:
    return f"version {champion.number}" if champion else "none"

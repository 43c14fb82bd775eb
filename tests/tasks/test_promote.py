"""The promotion tasks: a valid champion at every instant, by hand only with a verdict or by force, and back again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dcgan.errors import LeaseLostError, ModelError, UnavailableError
from tasks.promote import promote_candidate, promote_version, roll_back
from tracking import registry as model_registry
from tracking.lease import Holder, Lease

EXPECTED = "; expected one that passed beside the current champion, or --force."


class Killed(BaseException):
    """The process ended here."""


def kill_at(number: int, body: Callable[[], object]) -> None:
    """Run `body` in a process that ends instead of the n-th move of an alias."""
    begun = []
    move = model_registry.set_alias

    def set_alias(store, alias, version):
        begun.append(alias)
        if len(begun) == number:
            raise Killed
        move(store, alias, version)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_registry, "set_alias", set_alias)
        with pytest.raises(Killed):
            body()
    assert len(begun) == number


@pytest.mark.parametrize("number", [1, 2])
def test_a_promotion_that_is_killed_leaves_the_champion(in_service, number):
    """Killed before either alias moves, the champion is the former one; begun again, it ends as if never killed."""
    kill_at(number, lambda: promote_candidate.fn(in_service.context, in_service.better, "auto"))
    assert in_service.aliases()["champion"] == 1
    assert promote_candidate.fn(in_service.context, in_service.better, "auto").promoted
    assert in_service.aliases() == {"champion": 2, "previous": 1}


def test_a_promotion_whose_reply_is_lost_is_completed(in_service, monkeypatch):
    """The next attempt finds the alias moved, removes that of the challenger, and tells who is the champion."""
    announced = []
    monkeypatch.setattr("tasks.promote.announce_champion", lambda version, *_: announced.append(version))
    promote_candidate.fn(in_service.context, in_service.better, "manual")
    move = model_registry.set_alias

    def set_alias(store, alias, version):
        move(store, alias, version)
        if alias == "champion":
            raise UnavailableError("The MLflow server does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(model_registry, "set_alias", set_alias)
        with pytest.raises(UnavailableError):
            promote_candidate.fn(in_service.context, in_service.better, "auto")
    assert (in_service.aliases()["champion"], announced) == (2, [])
    assert promote_candidate.fn(in_service.context, in_service.better, "auto").promoted
    assert (in_service.aliases(), announced) == ({"champion": 2, "previous": 1}, [2])


def test_the_champion_is_not_announced_again(in_service, monkeypatch):
    """Evaluated beside itself, as by the training run that made it, it has been announced before."""
    announced = []
    monkeypatch.setattr("tasks.promote.announce_champion", lambda version, *_: announced.append(version))
    assert promote_candidate.fn(in_service.context, in_service.evaluate(1), "auto").promoted
    assert (in_service.aliases(), announced) == ({"champion": 1}, [])


def test_a_promotion_that_is_repeated_changes_nothing(in_service):
    """A training run that was killed after the promotion says again that its version is the champion."""
    once, twice = (promote_candidate.fn(in_service.context, in_service.better, "auto") for _ in range(2))
    assert once == twice
    assert once.promoted
    assert once.metrics == in_service.better.candidate.metrics()
    assert in_service.aliases() == {"champion": 2, "previous": 1}


def test_manual_leaves_a_challenger_and_the_command(in_service, log):
    """The better one waits; the command that the log names promotes it, and then nothing is a challenger."""
    promotion = promote_candidate.fn(in_service.context, in_service.better, "manual")
    assert not promotion.promoted
    assert "dcgan promote --version 2 promotes it." in log.text
    assert in_service.aliases() == {"champion": 1, "challenger": 2}
    promote_version.fn(in_service.context, 2, force=False)
    assert in_service.aliases() == {"champion": 2, "previous": 1}
    assert in_service.tags(2)["dcgan.promoted_by"] == "hand"


@pytest.mark.parametrize(
    ("champion", "promoted"),
    [
        ({"dcgan.dataset_digest": "0123", "dcgan.dataset_source": "/data/fashion"}, False),
        ({"dcgan.dataset_digest": "0123"}, True),
        ({"dcgan.dataset_source": "/data/mirror"}, True),
    ],
    ids=["other data", "the same source with new data", "the same data from another source"],
)
def test_a_champion_of_other_data_is_replaced_by_hand_only(in_service, champion, promoted):
    """A generator of other images is no better version of the champion, whatever their distances."""
    model_registry.tag_version(in_service.context.store, 1, champion)
    promotion = promote_candidate.fn(in_service.context, in_service.better, "auto")
    assert promotion.promoted == promoted
    assert ("The champion was trained on other data. Version 2 waits" in promotion.reason) != promoted
    assert in_service.aliases() == ({"champion": 2, "previous": 1} if promoted else {"champion": 1, "challenger": 2})
    promote_version.fn(in_service.context, 2, force=False)
    assert in_service.aliases() == {"champion": 2, "previous": 1}


def test_manual_makes_no_challenger_of_what_is_not_better(in_service):
    """What did not pass waits for nothing."""
    assert promote_candidate.fn(in_service.context, in_service.equal, "manual").reason.endswith(
        "Version 1 remains the champion."
    )
    assert in_service.aliases() == {"champion": 1}


def test_a_champion_that_changed_meanwhile_stays(in_service):
    """A verdict about another champion than that of now moves nothing."""
    promote_version.fn(in_service.context, 3, force=True)
    with pytest.raises(ModelError) as refusal:
        promote_candidate.fn(in_service.context, in_service.better, "auto")
    assert str(refusal.value) == (
        "The champion became version 3 while version 2 was evaluated beside 1; "
        "expected the same champion: evaluate it again."
    )
    assert in_service.aliases() == {"champion": 3, "previous": 1}


@contextmanager
def after(step: str, body: Callable[[], object]) -> Iterator[None]:
    """Call `body` once, as another machine would act, after a step of a promotion: a function of the registry."""
    take, pending = getattr(model_registry, step), [body]

    def taken(*arguments: object) -> None:
        take(*arguments)
        if pending:
            pending.pop()()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_registry, step, taken)
        yield


@pytest.fixture
def promoted_elsewhere(in_service) -> Callable[[], None]:
    """Return what another machine does: it promotes version 3."""
    return lambda: model_registry.set_champion(in_service.context.store, 3, in_service.aliases()["champion"])


# the last request before the aliases move, and an earlier one
STEPS = pytest.mark.parametrize("step", ["tag_version", "require_generator"])


@STEPS
def test_a_verdict_is_about_the_champion_that_a_candidate_replaces(in_service, promoted_elsewhere, step):
    """One that another machine promotes meanwhile is not replaced unawares."""
    with after(step, promoted_elsewhere), pytest.raises(ModelError, match=r"^The champion became version 3 "):
        promote_candidate.fn(in_service.context, in_service.better, "auto")
    assert in_service.aliases() == {"champion": 3, "previous": 1}
    assert "dcgan.promoted_by" not in in_service.tags(2)


@STEPS
def test_a_verdict_is_about_the_champion_that_is_replaced_by_hand(in_service, promoted_elsewhere, step):
    """So it is by hand."""
    with after(step, promoted_elsewhere), pytest.raises(ModelError, match=r"champion (than|became) version 3"):
        promote_version.fn(in_service.context, 2, force=False)
    assert in_service.aliases() == {"champion": 3, "previous": 1}


@STEPS
def test_a_champion_of_another_machine_is_not_rolled_back(in_service, promoted_elsewhere, step):
    """What was promoted meanwhile stays in service."""
    promote_candidate.fn(in_service.context, in_service.better, "auto")
    with after(step, promoted_elsewhere):
        assert refused_rollback(in_service).startswith("The champion ")
    assert in_service.aliases() == {"champion": 3, "previous": 2}


def test_a_training_run_that_was_taken_over_promotes_nothing(in_service):
    """Its successor, which begins while the candidate's files are checked, decides about the champion."""
    store = in_service.context.store
    run_id = store.client.get_model_version("dcgan-generator", "2").run_id
    mine, successors = (Lease(store, run_id, Holder(host=host, folder="/state")) for host in ("a", "b"))
    mine.take()
    with after("require_generator", successors.take), pytest.raises(LeaseLostError):
        promote_candidate.fn(in_service.context, in_service.better, "auto", mine)
    assert in_service.aliases() == {"champion": 1}


def refusal_of(in_service, number):
    """Return the sentence that refuses to promote a version."""
    with pytest.raises(ModelError) as refusal:
        promote_version.fn(in_service.context, number, force=False)
    return str(refusal.value)


def test_without_a_verdict_only_force_promotes(in_service):
    """No verdict: refused, and nothing moves; with force it moves, and a tag says what spoke against it."""
    number = in_service.add_better()
    reason = f"Version {number} has no verdict (dcgan evaluate --version {number} gives it one)"
    assert refusal_of(in_service, number) == reason + EXPECTED
    assert in_service.aliases() == {"champion": 1}
    assert promote_version.fn(in_service.context, number, force=True).promoted
    assert in_service.aliases() == {"champion": number, "previous": 1}
    assert in_service.tags(number)["dcgan.forced"] == reason
    assert in_service.tags(number)["dcgan.promoted_by"] == "force"
    promote_version.fn(in_service.context, 1, force=True)
    assert in_service.evaluate(number).verdict.passed
    promote_version.fn(in_service.context, number, force=False)
    assert in_service.tags(number)["dcgan.promoted_by"] == "hand"
    assert "dcgan.forced" not in in_service.tags(number)


def test_a_crippled_version_needs_force(in_service):
    """A verdict that is no: its reason is in the refusal, and nothing moves."""
    sentence = refusal_of(in_service, 4)
    assert sentence.startswith("Version 4 did not pass the gate (The candidate's number of missing classes is ")
    assert sentence.endswith(f"){EXPECTED}")
    assert in_service.aliases() == {"champion": 1}


def test_a_verdict_about_a_former_champion_needs_force(in_service):
    """What passed beside another champion may be worse than that of now."""
    promote_version.fn(in_service.context, 3, force=True)
    assert refusal_of(in_service, 2) == f"Version 2 was compared with another champion than version 3{EXPECTED}"
    assert in_service.aliases() == {"champion": 3, "previous": 1}


def test_promoting_the_champion_changes_nothing(in_service):
    """The champion does not become its own predecessor."""
    promotion = promote_version.fn(in_service.context, 1, force=True)
    assert (promotion.promoted, promotion.reason) == (True, "Version 1 is the champion already.")
    assert in_service.aliases() == {"champion": 1}


def test_rolling_back_exchanges_the_two(in_service):
    """Back to the previous champion; rolled back again, it is as before."""
    promote_candidate.fn(in_service.context, in_service.better, "auto")
    assert roll_back.fn(in_service.context).version == 1
    assert in_service.aliases() == {"champion": 1, "previous": 2}
    assert in_service.tags(1)["dcgan.promoted_by"] == "rollback"
    assert roll_back.fn(in_service.context).version == 2
    assert in_service.aliases() == {"champion": 2, "previous": 1}


@pytest.mark.parametrize(("number", "champion"), [(1, 2), (2, 1)])
def test_a_rollback_that_is_killed_leaves_a_champion(in_service, number, champion):
    """Killed between the two aliases, the one that was wanted is in service already."""
    promote_candidate.fn(in_service.context, in_service.better, "auto")
    kill_at(number, lambda: roll_back.fn(in_service.context))
    assert in_service.aliases() == {"champion": champion, "previous": 1}


def refused_rollback(registry):
    """Return the sentence that refuses a rollback."""
    with pytest.raises(ModelError) as refusal:
        roll_back.fn(registry.context)
    return str(refusal.value)


def test_rolling_back_needs_a_previous_champion(in_service):
    """With the first champion there is nothing to go back to: one sentence, nothing moves."""
    assert (
        refused_rollback(in_service)
        == "There is no previous champion to return to; expected a promotion before a rollback."
    )
    assert in_service.aliases() == {"champion": 1}


def test_rolling_back_needs_a_champion(registry):
    """So it is with no champion, and no model at all."""
    assert (
        refused_rollback(registry)
        == "There is no previous champion to return to; expected a promotion before a rollback."
    )

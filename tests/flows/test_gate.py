"""The pipeline's last stage through a real Prefect server: what is not better never becomes the champion."""

from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from dcgan.recipe import RECIPES
from flows.train import dcgan
from tasks.results import Summary
from tests.registry import ChampionRegistry
from tracking.tags import FAILED, MODEL_NAME


def train(registry: ChampionRegistry) -> Summary:
    """Run the pipeline on the registry's digits."""
    return dcgan(recipe="smoke", source=str(registry.folder), device="cpu")


def flow_run(identifier: str) -> FlowRun:
    """Return a flow run."""
    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(identifier))


def artifacts(identifier: str) -> dict[str, str]:
    """Return the artifacts of a flow run, by key."""
    wanted = {"flow_runs": {"id": {"any_": [identifier]}}}
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/artifacts/filter", json=wanted)
    return {artifact["key"]: artifact["data"] for artifact in answer.json()}


@pytest.fixture
def killed_before_promotion(in_service, prefect_server, monkeypatch) -> ChampionRegistry:
    """Return a registry after a training run that was killed between its evaluation and its promotion.

    The recipe `smoke` is evaluated as `fast` is; a few steps make no digits, so its generator cannot pass.
    """
    monkeypatch.setitem(RECIPES, "smoke", RECIPES["smoke"].model_copy(update={"epochs": 1, "evaluate_every": 1}))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks.promote.promote_candidate", killed)
        with pytest.raises(KeyboardInterrupt):
            train(in_service)
    assert in_service.tags(5)["dcgan.verdict"] == FAILED
    return in_service


@pytest.mark.slow
def test_a_bad_candidate_never_becomes_the_champion(killed_before_promotion):
    """The run resumes at the gate and is Completed: one version, evaluated once, and the champion remains."""
    registry = killed_before_promotion
    assert registry.aliases() == {"champion": 1}
    summary = train(registry)

    assert registry.aliases() == {"champion": 1}
    assert (summary.model_version, summary.promoted) == (5, False)
    assert summary.verdict.startswith("The candidate's number of missing classes is ")
    assert summary.verdict.endswith("Version 1 remains the champion.")
    client = registry.context.store.client
    assert len(client.search_model_versions(f"name = '{MODEL_NAME}'")) == 5

    assert {"quality/frechet_distance", "quality_heldout/frechet_distance"} <= summary.quality.keys()
    distance = summary.metrics["frechet_distance"]
    best = {"quality_epoch/best_epoch": 1, "quality_epoch/best_frechet_distance": distance}
    for name, value in {**summary.quality, **best}.items():
        (metric,) = client.get_metric_history(summary.run_id, name)
        assert (metric.value, metric.step) == (value, 0)

    run = client.get_run(summary.run_id)
    report = Path(client.download_artifacts(summary.run_id, "report/quality.html")).read_text()
    for shown in (run.info.run_name, "Did not pass the gate.", "champion 1", "best: 1", "Fréchet distance"):
        assert shown in report
    assert run.info.status == "FINISHED"
    identifier = run.data.tags["prefect.flow_run_id"]
    state = flow_run(identifier).state
    assert (state.name, state.message) == ("Completed", summary.verdict)
    assert artifacts(identifier)["promotion"] == summary.verdict

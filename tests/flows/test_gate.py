"""The pipeline's last stage through a real Prefect server: what is not better never reaches the champion."""

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from dcgan.recipe import RECIPES
from flows import train
from flows.train import dcgan
from tasks.settings import read_settings
from tasks.tracking.quality import FAILED
from tasks.tracking.store import MODEL_NAME, Store


@pytest.fixture
def gated(monkeypatch):
    """Let `smoke` be evaluated as `fast` is; a few steps make no digits, so its generator is crippled."""
    monkeypatch.setitem(RECIPES, "smoke", RECIPES["smoke"].model_copy(update={"epochs": 1, "evaluate_every": 1}))


def pipeline(registry):
    return dcgan(recipe="smoke", source=str(registry.folder), device="cpu")


def flow_run_of(run):
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.data.tags["prefect.flow_run_id"])


def artifacts_of(run):
    with get_client(sync_client=True) as client:
        wanted = {"flow_runs": {"id": {"any_": [str(flow_run_of(run).id)]}}}
        answer = client.request("POST", "/artifacts/filter", json=wanted)
    return {artifact["key"]: artifact["data"] for artifact in answer.json()}


@pytest.fixture
def killed_at_the_gate(in_service, gated, prefect_server, monkeypatch):
    """A training of a crippled candidate that was killed between its evaluation and its promotion."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "promote_candidate", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline(in_service)
    assert in_service.tags(5)["dcgan.verdict"] == FAILED
    return in_service


@pytest.mark.slow
def test_a_crippled_candidate_never_reaches_the_champion(killed_at_the_gate):
    """The training goes on at the gate and is Completed: one version, evaluated once, and the champion stays."""
    registry = killed_at_the_gate
    assert registry.aliases() == {"champion": 1}
    summary = pipeline(registry)

    assert registry.aliases() == {"champion": 1}
    assert (summary.model_version, summary.promoted) == (5, False)
    assert summary.verdict.startswith("The candidate's number of missing classes is ")
    assert summary.verdict.endswith("Version 1 stays the champion.")
    client = Store(read_settings()).client
    assert len(client.search_model_versions(f"name = '{MODEL_NAME}'")) == 5
    assert "quality/frechet_distance" in summary.quality
    for name, value in summary.quality.items():
        (metric,) = client.get_metric_history(summary.run_id, name)
        assert (metric.value, metric.step) == (value, 1)
    for name, value in {"best_epoch": 1, "best_frechet_distance": summary.metrics["frechet_distance"]}.items():
        (metric,) = client.get_metric_history(summary.run_id, name)
        assert (metric.value, metric.step) == (value, 1)
    run = client.get_run(summary.run_id)
    page = Path(client.download_artifacts(summary.run_id, "report/quality.html")).read_text()
    for shown in (run.info.run_name, "Did not pass the gate.", "champion 1", "best: 1", "Fréchet distance"):
        assert shown in page
    assert run.info.status == "FINISHED"
    state = flow_run_of(run).state
    assert (state.name, state.message) == ("Completed", summary.verdict)
    assert artifacts_of(run)["promotion"] == summary.verdict

"""deploy/kubernetes: valid manifests, pods without rights, secrets by reference, and a template for flow runs."""

import json
import re
import tomllib
from importlib.metadata import version
from typing import Any

import kubernetes_validate
import prefect.settings
import pytest
from prefect.utilities.templating import find_placeholders

from operations.deploy import KUBERNETES
from tests.deploy.manifests import (
    CHART_VALUES,
    CHECKOUT,
    FOLDER,
    KUSTOMIZATION,
    OBJECTS,
    PODS,
    TEMPLATE,
    containers,
    found,
    of_kind,
)

KUBERNETES_VERSIONS = ("1.33", "1.37")
DOCUMENT = (CHECKOUT / "docs" / "kubernetes.md").read_text()
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}

each_pod = pytest.mark.parametrize("pod", PODS.values(), ids=PODS.keys())
each_object = pytest.mark.parametrize("manifest", OBJECTS.values(), ids=OBJECTS.keys())


@pytest.mark.parametrize("kubernetes", KUBERNETES_VERSIONS)
@each_object
def test_manifests_are_valid(manifest: dict[str, Any], kubernetes: str) -> None:
    """Each object fits the schema of its kind, and has no field that Kubernetes would drop."""
    kubernetes_validate.validate(manifest, kubernetes, strict=True)


def test_every_manifest_is_applied() -> None:
    """Each file of the folder is used by kustomize, by Prefect's chart or by `dcgan deploy --kubernetes`."""
    elsewhere = {"kustomization.yaml", "prefect-server-values.yaml", "base-job-template.json"}
    settings = {file for each in KUSTOMIZATION["configMapGenerator"] for file in each["envs"]}
    assert {path.name for path in FOLDER.iterdir()} == set(KUSTOMIZATION["resources"]) | elsewhere | settings


def test_one_image_in_one_place() -> None:
    """Every container has the image that kustomization.yaml names, with the project's version for its tag."""
    (image,) = KUSTOMIZATION["images"]
    for name, pod in PODS.items():
        expected = "{{ image }}" if name == "flow run" else image["name"]
        assert {each["image"] for each in containers(pod)} == {expected}
    assert image["newTag"] == tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]


@each_pod
def test_pods_run_without_rights(pod: dict[str, Any]) -> None:
    """No pod runs as root, writes outside its volumes, or could gain rights; the namespace refuses any that might."""
    context = pod["spec"]["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["fsGroup"] == 1000
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [each["securityContext"] for each in containers(pod)] == [RESTRICTED] * len(containers(pod))
    assert all("/tmp" in {mount["mountPath"] for mount in each["volumeMounts"]} for each in containers(pod))  # noqa: S108
    assert "hostPath" not in set().union(*pod["spec"]["volumes"])
    labels = OBJECTS["Namespace/dcgan"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@each_pod
def test_pods_have_resources_and_take_no_settings_from_services(pod: dict[str, Any]) -> None:
    """Each container reserves processors and memory and has a limit; names of services set no variables."""
    for each in containers(pod):
        assert set(each["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in each["resources"]["limits"]
    assert pod["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("name", [name for name in PODS if name != "flow run"])
def test_servers_are_probed(name: str) -> None:
    """Kubernetes asks the worker and MLflow whether they have started, live and can be used, at a port of theirs."""
    (container,) = PODS[name]["spec"]["containers"]
    ports = {each["name"] for each in container["ports"]}
    probes = [container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert {probe["path"] for probe in probes} == {"/health"}
    assert {probe["port"] for probe in probes} <= ports


@each_pod
def test_only_the_worker_has_a_token(pod: dict[str, Any]) -> None:
    """Each pod has an account of its own that exists; only that of the worker can talk to Kubernetes."""
    account = pod["spec"]["serviceAccountName"]
    assert OBJECTS[f"ServiceAccount/{account}"]["automountServiceAccountToken"] is False
    assert pod["spec"]["automountServiceAccountToken"] is (account == "prefect-worker")


def test_the_role_is_bound_to_the_worker() -> None:
    """The one role belongs to the worker and names verbs and resources, without wildcards or rights over secrets."""
    binding = OBJECTS["RoleBinding/prefect-worker"]
    assert binding["roleRef"]["name"] in of_kind("Role")
    assert [subject["name"] for subject in binding["subjects"]] == ["prefect-worker"]
    assert binding["subjects"][0]["namespace"] == KUSTOMIZATION["namespace"] == "dcgan"
    granted = json.dumps(OBJECTS["Role/prefect-worker"]["rules"])
    assert "*" not in granted
    assert "secrets" not in granted
    assert of_kind("ClusterRole") == of_kind("ClusterRoleBinding") == set()


def test_secrets_are_referred_to_and_documented() -> None:
    """No manifest contains a secret, and docs/kubernetes.md says how to make each that one refers to, with each key."""
    assert of_kind("Secret") == set()
    assert "secretGenerator" not in KUSTOMIZATION
    manifests = [OBJECTS, TEMPLATE, CHART_VALUES]
    keys = {(each["name"], each["key"]) for each in found(manifests, "secretKeyRef")}
    keys |= {
        (each["secretName"], item["key"])
        for each in found(manifests, "secret")
        if "items" in each
        for item in each["items"]
    }
    names = {name for name, _ in keys} | {each["name"] for each in found(manifests, "secretRef")}
    names |= set(found(CHART_VALUES, "existingSecret")) | {CHART_VALUES["secret"]["name"]}
    documented = dict(re.findall(r"create secret generic (\S+) (.*)", DOCUMENT.replace(" \\\n", " ")))
    assert set(documented) == names
    assert len(keys) > 5
    assert [(name, key) for name, key in keys if f"--from-file={key}" not in documented[name].split()] == []


@each_pod
def test_no_variable_contains_a_password(pod: dict[str, Any]) -> None:
    """Variables whose names speak of passwords, users or databases come from secrets."""
    secret = re.compile(r"PASSWORD|USERNAME|AUTH_STRING$|FLASK|STORE_URI|SWEEPS_URI")
    values = [each for container in containers(pod) for each in container["env"] if secret.search(each["name"])]
    assert values
    assert [each["name"] for each in values if "value" in each] == []


def test_configuration_maps_exist() -> None:
    """Every ConfigMap that a pod refers to is one that kustomize generates."""
    generated = {each["name"] for each in KUSTOMIZATION["configMapGenerator"]}
    assert {each["name"] for each in found(PODS, "configMapRef")} == generated


def test_nothing_is_reachable_unless_listed() -> None:
    """One policy denies everything to every pod; the others open single ports, to pods that exist."""
    policies = {name: each["spec"] for name, each in OBJECTS.items() if each["kind"] == "NetworkPolicy"}
    assert policies["NetworkPolicy/default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    rules = [rule for each in policies.values() for way in ("ingress", "egress") for rule in each.get(way, [])]
    assert len(rules) >= 8
    assert all(rule["ports"] for rule in rules)
    known = [pod["metadata"]["labels"] for pod in PODS.values()]
    known += [{"app.kubernetes.io/name": "prefect-server"}, {"k8s-app": "kube-dns"}]  # of the chart, of the cluster
    selected = [each["matchLabels"] for each in found(policies, "podSelector") if each]
    assert len(selected) >= 8
    assert [labels for labels in selected if not any(labels.items() <= each.items() for each in known)] == []


def test_worker_serves_the_pool_in_its_own_namespace() -> None:
    """The worker serves the pool that `dcgan deploy --kubernetes` makes, and its jobs are in its namespace."""
    (container,) = PODS["Deployment/prefect-worker"]["spec"]["containers"]
    arguments = container["args"]
    assert arguments[arguments.index("--pool") + 1] == KUBERNETES.name
    assert arguments[arguments.index("--type") + 1] == "kubernetes"
    assert TEMPLATE["variables"]["properties"]["namespace"]["default"] == KUSTOMIZATION["namespace"]


def test_template_defines_what_it_uses() -> None:
    """Prefect ignores a variable that is not used, and leaves out a field whose variable is not defined."""
    variables: dict[str, Any] = TEMPLATE["variables"]["properties"]
    used = {each.name for each in find_placeholders(TEMPLATE["job_configuration"])}
    assert used == set(variables)
    assert set(KUBERNETES.without_gpu) <= set(variables)
    assert [name for name, each in variables.items() if not each.get("description") or not each.get("title")] == []
    # Prefect itself finds values for these two
    assert {name for name, each in variables.items() if "default" not in each} == {"name", "command"}


def test_flow_runs_end_as_they_should() -> None:
    """A pod is not restarted, nor a job: Prefect does that. SIGTERM leaves more time than Prefect's 30 seconds."""
    job = TEMPLATE["job_configuration"]["job_manifest"]["spec"]
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert TEMPLATE["variables"]["properties"]["termination_grace_seconds"]["minimum"] > 30


def test_chart_values_fit_the_clients() -> None:
    """Servers have the locked client's version, no password of the chart's, and settings that Prefect knows."""
    assert CHART_VALUES["global"]["prefect"]["image"]["prefectTag"].startswith(f"{version('prefect')}-")
    assert CHART_VALUES["postgresql"]["enabled"] is False
    assert CHART_VALUES["secret"]["create"] is False
    assert CHART_VALUES["server"]["basicAuth"]["enabled"] is True
    assert list(found(CHART_VALUES, "password")) == list(found(CHART_VALUES, "authString")) == []
    names = [each["name"] for each in CHART_VALUES["global"]["prefect"]["env"]]
    ours = [name for name in names if name.startswith("PREFECT_") and not name.startswith("PREFECT_REDIS_")]
    assert len(ours) > 5
    assert [name for name in ours if not hasattr(prefect.settings, name)] == []
    assert not hasattr(prefect.settings, "PREFECT_SERVER_ANALYTICS_ENABLE")

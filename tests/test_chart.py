"""The Helm chart, rendered by Helm itself; no cluster is needed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from gateway.settings import GatewaySettings
from supervisor.settings import TritonSettings
from tests.conftest import ROOT
from tests.test_containers import instructions, services, variables

CHART = ROOT / "deploy" / "helm"
VALUES = sorted(CHART.glob("ci/*-values.yaml"))
KUBERNETES = "1.36"
CUSTOM = {  # kinds of operators, whose schemas are not here
    "BackendTrafficPolicy", "HTTPRoute", "InferenceService", "PodMonitor", "PrometheusRule",
    "ScaledObject",
}  # fmt: skip
PROGRAMS = {"gateway": "gateway", "triton": "triton", "kserve-container": "triton"}
# Settings that the chart makes itself, or that its pools have no use for.
MADE = {
    "gateway": {
        *("API_KEYS", "API_KEYS_FILE", "DRAIN_TIMEOUT", "MAX_LOADED_MODELS"),
        *("TRITON_ADMIN_KEY_FILE", "TRITON_GRPC", "TRITON_POOLS", "TRITON_TLS"),
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    },
    "triton": {
        *("HF_HUB_OFFLINE", "HF_TOKEN", "LOAD_MODELS", "MEMORY_SHARE"),
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        *("TRITON_ADMIN_KEY_FILE", "TRITON_HTTP_PORT", "TRITON_TLS"),
    },
}

Manifest = dict[str, Any]


def values(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(file.read_text())
    return read


def render(settings: dict[str, Any]) -> list[Manifest]:
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(settings)
        files = chart.render(settings, name="demo", namespace="music")
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """The manifests of a kind by their names."""
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def pods(manifests: list[Manifest]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """The labels and the specification of each kind of pod."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Pod":
            yield manifest["metadata"]["labels"], spec
        elif manifest["kind"] == "Deployment":
            yield spec["template"]["metadata"]["labels"], spec["template"]["spec"]
        elif manifest["kind"] == "InferenceService":
            yield spec["predictor"]["labels"], spec["predictor"]


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in container["env"]}


@pytest.fixture(params=VALUES, ids=lambda file: file.name)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(values(request.param))


@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.name)
def test_helm_finds_nothing_to_mend(file: Path) -> None:
    report = helm.lint(str(CHART), values(file), strict=True, kube_version=f"v{KUBERNETES}.0")
    assert [m["error"] for m in report["messages"]] == ["icon is recommended"]


def test_kubernetes_knows_every_field(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_three_sets_of_values_have_every_kind() -> None:
    kinds = [{manifest["kind"] for manifest in render(values(file))} for file in VALUES]
    assert len(kinds) == 3 and set.union(*kinds) >= CUSTOM
    assert not any("Secret" in found for found in kinds)  # no key is in a chart or in its values


def test_the_chart_has_the_version_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{values(CHART / "Chart.yaml")["appVersion"]}"' in project


def test_containers_run_as_in_compose(manifests: list[Manifest]) -> None:
    """The images' own commands, users and ports, with the folders that may be written."""
    for _, pod in pods(manifests):
        for container in pod["containers"]:
            if container["name"] == "song":
                continue
            program = PROGRAMS[container["name"]]
            compose, lines = services()[program], instructions(f"Dockerfile.{program}")
            assert compose["image"] in container["image"]
            assert not {"command", "args"} & container.keys()
            exposed = {int(port) for name, *ports in lines if name == "EXPOSE" for port in ports}
            ports = {port["containerPort"] for port in container["ports"]}
            assert ports == exposed - {8100}  # Triton's HTTP is off
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            folders = {volume.split(":")[1] for volume in compose["volumes"]} | {compose["tmpfs"]}
            if program == "gateway":  # it has keys to read in place of Triton's
                assert mounts.keys() - {"/keys"} == folders - {"/secrets"}
            else:
                assert mounts.keys() == folders | {"/dev/shm"}
                [shm] = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
                size = compose["shm_size"].replace("gb", "Gi")
                assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": size}
            assert environment(container).keys() <= variables(program)


def test_the_images_are_those_of_compose() -> None:
    text = (ROOT / "docker-compose.gpu.yml").read_text()
    images = {service["image"] for service in services().values()}
    images.add(yaml.safe_load(text)["services"]["triton"]["image"])
    used = {
        container["image"].rpartition("/")[2].partition(":")[0]
        for file in VALUES
        for _, pod in pods(render(values(file)))
        for container in pod["containers"]
    }
    assert used == images


def test_pods_meet_the_restricted_standard(manifests: list[Manifest]) -> None:
    found = [*pods(manifests)]
    assert len(found) >= 3
    for _, pod in found:
        user = pod["securityContext"]
        assert (user["runAsNonRoot"], user["runAsUser"], user["runAsGroup"]) == (True, 1000, 1000)
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "image", "persistentVolumeClaim", "secret"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]


def test_settings_of_values_are_those_of_compose() -> None:
    properties = json.loads((CHART / "values.schema.json").read_text())
    allowed = {
        "gateway": properties["properties"]["gateway"]["properties"]["settings"],
        "triton": properties["definitions"]["pool"]["properties"]["settings"],
    }
    for program, schema in allowed.items():
        [pattern] = schema["patternProperties"]
        names = set(re.findall(r"\w+", pattern))
        assert names == variables(program) - MADE[program]


def test_gateways_know_the_pods_of_every_pool(manifests: list[Manifest]) -> None:
    labels = [labels for labels, _ in pods(manifests)]
    headless = of_kind(manifests, "Service")
    gateway = of_kind(manifests, "Deployment")["demo-gateway"]["spec"]["template"]["spec"]
    pools = environment(gateway["containers"][0])["TRITON_POOLS"].split()
    assert pools
    for pool in pools:
        model, _, address = pool.partition("=")
        host, _, port = address.partition(":")
        service = headless[host]["spec"]
        assert service["clusterIP"] == "None"
        assert [service["ports"][0]["port"], int(port)] == [TritonSettings.grpc_port] * 2
        chosen = [found for found in labels if service["selector"].items() <= found.items()]
        assert [found["pool"] for found in chosen] == [model]


def test_selectors_find_one_kind_of_pod(manifests: list[Manifest]) -> None:
    labels = [labels for labels, _ in pods(manifests)]
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for manifest in of_kind(manifests, kind).values():
            spec = manifest["spec"]
            wanted = (spec.get("selector") or spec["podSelector"])["matchLabels"]
            assert sum(wanted.items() <= found.items() for found in labels) == 1


def test_policies_and_monitors_name_ports_of_containers(manifests: list[Manifest]) -> None:
    ports = {
        port["name"]
        for _, pod in pods(manifests)
        for container in pod["containers"]
        for port in container.get("ports", [])
    }
    assert ports == {"http", "grpc", "metrics"}
    rules = [
        rule
        for policy in of_kind(manifests, "NetworkPolicy").values()
        for rule in [*policy["spec"]["ingress"], *policy["spec"]["egress"]]
    ]
    named = {port["port"] for rule in rules for port in rule.get("ports", [])}
    for monitor in of_kind(manifests, "PodMonitor").values():
        named |= {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    assert named - {53, 4318} == ports


def test_a_pod_has_longer_to_stop_than_it_drains(manifests: list[Manifest]) -> None:
    """And the drain is as long as the longest song."""
    grace = {
        container["name"]: (pod["terminationGracePeriodSeconds"], container)
        for _, pod in pods(manifests)
        for container in pod["containers"]
        if "lifecycle" in container
    }
    seconds, gateway = grace.pop("gateway")
    drain = float(environment(gateway)["DRAIN_TIMEOUT"])
    longest = float(environment(gateway).get("MAX_DURATION", GatewaySettings.max_duration))
    assert seconds >= drain + gateway["lifecycle"]["preStop"]["sleep"]["seconds"] + 8
    assert drain >= longest
    for seconds, triton in grace.values():
        words = triton["lifecycle"]["preStop"]["exec"]["command"]
        assert words[:2] == ["sh", "-c"] and seconds > longest


def test_a_pool_with_weights_of_its_own_has_no_others() -> None:
    defaults = {"weights": {"pvc": "shared"}}
    pools = [{"model": "a", "weights": {"image": "registry.example/a:1"}}, {"model": "b"}]
    deployments = of_kind(render({"poolDefaults": defaults, "pools": pools}), "Deployment")
    for name, kind in (("a", "image"), ("b", "persistentVolumeClaim")):
        volumes = deployments[f"demo-{name}"]["spec"]["template"]["spec"]["volumes"]
        [cache] = [volume for volume in volumes if volume["name"] == "cache"]
        assert cache.keys() == {"name", kind}


@pytest.mark.parametrize("value", [1_000_000, 0.25, "https://a.example, *"])
def test_a_setting_arrives_as_it_is_written(value: object) -> None:
    manifests = render({"gateway": {"settings": {"CORS_ORIGINS": value}}})
    spec = of_kind(manifests, "Deployment")["demo-gateway"]["spec"]["template"]["spec"]
    assert environment(spec["containers"][0])["CORS_ORIGINS"] == str(value)


def test_an_autoscaler_alone_says_how_many_pods_there_are() -> None:
    manifests = render(values(CHART / "ci" / "gpu-values.yaml"))
    deployments = of_kind(manifests, "Deployment")
    scaled = {"demo-gateway", "demo-musicgen-small"}
    assert {name for name, m in deployments.items() if "replicas" not in m["spec"]} == scaled
    [trigger] = of_kind(manifests, "ScaledObject")["demo-musicgen-small"]["spec"]["triggers"]
    assert trigger["metadata"]["threshold"] == "70"
    monitor = of_kind(manifests, "PodMonitor")["demo"]["metadata"]["name"]
    assert f'{{job="music/{monitor}",model="musicgen-small"}}' in trigger["metadata"]["query"]


def test_kserve_scales_by_the_same_query() -> None:
    pool = {"model": "musicgen-small", "replicas": {"min": 2, "max": 8}}
    plain = of_kind(render({"pools": [pool]}), "ScaledObject")["demo-musicgen-small"]
    kserve = of_kind(render({"pools": [pool], "engine": "kserve"}), "InferenceService")
    [metric] = kserve["demo-musicgen-small"]["spec"]["predictor"]["autoScaling"]["metrics"]
    [trigger] = plain["spec"]["triggers"]
    assert metric["external"]["metric"]["query"] == trigger["metadata"]["query"]
    assert metric["external"]["target"]["value"] == trigger["metadata"]["threshold"]


@pytest.mark.parametrize("weights", [{"pvc": "weights"}, {"image": "registry.example/weights:1"}])
def test_pods_with_weights_have_no_network(weights: dict[str, str]) -> None:
    pool = {"model": "musicgen-small", "weights": weights}
    manifests = render({"pools": [pool, {"model": "musicgen-large"}]})
    policies = of_kind(manifests, "NetworkPolicy")
    assert policies["demo-musicgen-small"]["spec"]["egress"] == []
    assert policies["demo-musicgen-large"]["spec"]["egress"] == [{}]
    for name, offline in (("small", "1"), ("large", None)):
        spec = of_kind(manifests, "Deployment")[f"demo-musicgen-{name}"]["spec"]["template"]["spec"]
        [triton] = spec["containers"]
        [cache] = [mount for mount in triton["volumeMounts"] if mount["name"] == "cache"]
        assert environment(triton).get("HF_HUB_OFFLINE") == offline
        assert cache.get("readOnly", False) is (offline == "1")


@pytest.mark.parametrize(("gpus", "share"), [(0, None), (1, "0.9")])
def test_a_model_has_its_gpu_to_itself(gpus: int, share: str | None) -> None:
    manifests = render({"pools": [{"model": "musicgen-small", "gpus": gpus}]})
    spec = of_kind(manifests, "Deployment")["demo-musicgen-small"]["spec"]["template"]["spec"]
    [triton] = spec["containers"]
    assert triton["resources"]["limits"].get("nvidia.com/gpu", 0) == gpus
    assert ("tolerations" in spec) is (gpus > 0)
    assert environment(triton).get("MEMORY_SHARE") == share


def test_every_program_reaches_the_collector_of_traces() -> None:
    pool = {"model": "musicgen-small", "weights": {"pvc": "weights"}}
    manifests = render({"pools": [pool], "tracing": "http://collector.monitoring:4318"})
    for deployment in of_kind(manifests, "Deployment").values():
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        address = environment(container)["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert address == "http://collector.monitoring:4318"
    for policy in of_kind(manifests, "NetworkPolicy").values():
        assert {"ports": [{"port": 4318}]} in policy["spec"]["egress"]


def test_a_route_has_no_time_limit() -> None:
    manifests = render(values(CHART / "ci" / "gpu-values.yaml"))
    [rule] = of_kind(manifests, "HTTPRoute")["demo"]["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    [backend] = rule["backendRefs"]
    service = of_kind(manifests, "Service")[backend["name"]]["spec"]
    assert [port["port"] for port in service["ports"]] == [backend["port"]]


@pytest.mark.parametrize(
    ("keys", "choice"), [("music-keys", "Authorization"), ("", {"name": "gateway", "ttl": "1h"})]
)
def test_a_client_stays_at_one_gateway(keys: str, choice: object) -> None:
    route = {"parentRefs": [{"name": "public"}], "envoyGateway": True}
    manifests = render({"httpRoute": route, "gateway": {"apiKeysSecret": keys}})
    policy = of_kind(manifests, "BackendTrafficPolicy")["demo"]["spec"]
    hashed = policy["loadBalancer"]["consistentHash"]
    assert choice in (hashed.get("cookie"), hashed.get("header", {}).get("name"))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"pools": [{"modell": "musicgen-small"}]}, "modell"),
        ({"pools": [{"gpus": 1}]}, "model"),
        ({"pools": []}, "pools"),
        ({"pools": [{"model": "My_Model"}]}, "model"),
        ({"pools": [{"model": "gateway"}]}, "model"),
        ({"pools": [{"model": "a", "weights": {"pvc": "b", "image": "c"}}]}, "weights"),
        ({"pools": [{"model": "a", "settings": {"MAX_QUEU": 1}}]}, "settings"),
        ({"pools": [{"model": "a"}, {"model": "a"}]}, "a is there twice"),
        ({"gateway": {"settings": {"TRITON_GRPC": "elsewhere:8101"}}}, "settings"),
        ({"gateway": {"replicas": {"min": 0}}}, "min"),
        ({"engine": "ray"}, "engine"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(helm.HelmError, match=named):
        render(wrong)


def test_the_licence_of_the_weights_stands_in_notes_and_values() -> None:
    with helm.Chart.load(CHART) as chart:
        notes = chart.render({}, name="demo")["audiocraft-service/templates/NOTES.txt"]
    for text in (notes, (CHART / "values.yaml").read_text()):
        assert "CC-BY-NC 4.0: no commercial use" in text

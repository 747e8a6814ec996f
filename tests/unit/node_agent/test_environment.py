"""What a container finds in its environment."""

import pytest

from cluster.pb.v1 import core_pb2 as core
from node_agent.environment import (
    Configuration,
    Place,
    UnknownField,
    build_environment,
    command_line,
    expand,
    left_out,
    service_variables,
)
from tests.unit.node_agent.kit import make_pod

PLACE = Place("node-1", "127.7.0.10", "127.7.16.3", "/var/pod", "/usr/bin:/bin")


def make_service(name: str, ip: str, *ports: tuple[str, int], namespace: str = "default") -> core.Service:
    service = core.Service()
    service.metadata.name, service.metadata.namespace = name, namespace
    service.spec.clusterIP = ip
    for port_name, port in ports:
        service.spec.ports.add(name=port_name, port=port, protocol="TCP")
    return service


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("$(A)-$(B)", "1-two"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A}", "$A ${A}"),
        ("$(A", "$(A"),
        ("cost: 5$", "cost: 5$"),
        ("$()", "$()"),
        ("$(A)$(A)", "11"),
    ],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "B": "two"}) == result


def test_the_base_is_clean_and_says_where_the_pod_is() -> None:
    pod = make_pod()
    env = build_environment(pod, pod.spec.containers[0], PLACE, [])
    assert env == {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/var/pod",
        "HOSTNAME": "web",
        "PYTHONUNBUFFERED": "1",
        "POD_NAME": "web",
        "POD_NAMESPACE": "default",
        "POD_IP": "127.7.16.3",
        "NODE_NAME": "node-1",
    }


def test_who_has_a_terminal_is_told_of_which_kind() -> None:
    pod = make_pod()
    main = pod.spec.containers[0]
    main.tty = True
    assert build_environment(pod, main, PLACE, [])["TERM"] == "xterm"
    main.env.add(name="TERM", value="vt100")
    assert build_environment(pod, main, PLACE, [])["TERM"] == "vt100"


def test_a_pod_may_name_its_host() -> None:
    pod = make_pod()
    pod.spec.hostname = "db-0"
    env = build_environment(pod, pod.spec.containers[0], PLACE, [])
    assert (env["HOSTNAME"], env["POD_NAME"]) == ("db-0", "web")


def test_ports() -> None:
    pod = make_pod()
    container = pod.spec.containers[0]
    container.ports.add(containerPort=8080)
    container.ports.add(containerPort=9090, name="web-admin")
    env = build_environment(pod, container, PLACE, [])
    assert (env["PORT"], env["PORT_WEB_ADMIN"]) == ("8080", "9090")


def test_explicit_variables_win_and_refer_to_earlier_ones() -> None:
    pod = make_pod()
    container = pod.spec.containers[0]
    container.ports.add(containerPort=8080)
    container.env.add(name="PORT", value="1234")
    container.env.add(name="URL", value="http://$(BACKEND_SERVICE_HOST):$(BACKEND_SERVICE_PORT)/$(PORT)")
    container.env.add(name="EARLY", value="$(LATE)")
    container.env.add(name="LATE", value="x")
    container.command.extend(["serve", "--port=$(PORT)", "$(EARLY)"])
    env = build_environment(pod, container, PLACE, [make_service("backend", "127.7.1.2", ("", 80))])
    assert env["URL"] == "http://127.7.1.2:80/1234"
    assert env["EARLY"] == "$(LATE)"
    assert command_line(container, env)[1:] == ("serve", "--port=1234", "$(LATE)")


def test_service_variables_are_those_of_kubernetes() -> None:
    services = [
        make_service("redis-primary", "10.0.0.11", ("", 6379)),
        make_service("web", "10.0.0.12", ("http", 80), ("admin-ui", 8080)),
        make_service("other", "10.0.0.13", ("", 1), namespace="elsewhere"),
        make_service("headless", "None", ("", 1)),
    ]
    assert service_variables("default", services) == {
        "REDIS_PRIMARY_SERVICE_HOST": "10.0.0.11",
        "REDIS_PRIMARY_SERVICE_PORT": "6379",
        "REDIS_PRIMARY_PORT": "tcp://10.0.0.11:6379",
        "REDIS_PRIMARY_PORT_6379_TCP": "tcp://10.0.0.11:6379",
        "REDIS_PRIMARY_PORT_6379_TCP_PROTO": "tcp",
        "REDIS_PRIMARY_PORT_6379_TCP_PORT": "6379",
        "REDIS_PRIMARY_PORT_6379_TCP_ADDR": "10.0.0.11",
        "WEB_SERVICE_HOST": "10.0.0.12",
        "WEB_SERVICE_PORT": "80",
        "WEB_SERVICE_PORT_HTTP": "80",
        "WEB_SERVICE_PORT_ADMIN_UI": "8080",
        "WEB_PORT": "tcp://10.0.0.12:80",
        "WEB_PORT_80_TCP": "tcp://10.0.0.12:80",
        "WEB_PORT_80_TCP_PROTO": "tcp",
        "WEB_PORT_80_TCP_PORT": "80",
        "WEB_PORT_80_TCP_ADDR": "10.0.0.12",
        "WEB_PORT_8080_TCP": "tcp://10.0.0.12:8080",
        "WEB_PORT_8080_TCP_PROTO": "tcp",
        "WEB_PORT_8080_TCP_PORT": "8080",
        "WEB_PORT_8080_TCP_ADDR": "10.0.0.12",
    }


def test_service_links_can_be_left_out() -> None:
    pod = make_pod()
    pod.spec.enableServiceLinks = False
    env = build_environment(pod, pod.spec.containers[0], PLACE, [make_service("web", "10.0.0.1", ("", 80))])
    assert "WEB_SERVICE_HOST" not in env


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "u-1"),
        ("spec.nodeName", "node-1"),
        ("status.podIP", "127.7.16.3"),
        ("status.hostIP", "127.7.0.10"),
        ("metadata.labels['app']", "guest\nbook"),
        ("metadata.annotations['none']", ""),
        ("metadata.labels", 'app="guest\\nbook"\nx="y"'),
    ],
)
def test_downward_fields(path: str, value: str) -> None:
    pod = make_pod(uid="u-1")
    pod.metadata.labels["x"], pod.metadata.labels["app"] = "y", "guest\nbook"
    container = pod.spec.containers[0]
    container.env.add(name="V").valueFrom.fieldRef.fieldPath = path
    assert build_environment(pod, container, PLACE, [])["V"] == value


def test_an_unknown_field_is_an_error() -> None:
    pod = make_pod()
    pod.spec.containers[0].env.add(name="V").valueFrom.fieldRef.fieldPath = "spec.secret"
    with pytest.raises(UnknownField, match=r"spec\.secret"):
        build_environment(pod, pod.spec.containers[0], PLACE, [])


def test_keys_that_no_variable_can_be_made_of_are_left_out_and_named() -> None:
    pod = make_pod()
    container = pod.spec.containers[0]
    container.envFrom.add().configMapRef.localObjectReference.name = "web"
    container.envFrom.add(prefix="S_").secretRef.localObjectReference.name = "db"
    settings = core.ConfigMap(data={"good": "1", "1bad": "2", "with space": "3"})
    settings.metadata.namespace, settings.metadata.name = "default", "web"
    secret = core.Secret(data={"1fine": b"4", "binary": b"\xff", "nul": b"a\0b"})
    secret.metadata.namespace, secret.metadata.name = "default", "db"
    configuration: Configuration = {("ConfigMap", "web"): settings, ("Secret", "db"): secret}
    env = build_environment(pod, container, PLACE, [], configuration)
    assert {name: env[name] for name in env if name in ("good", "1bad", "with space") or name.startswith("S_")} == {
        "good": "1",
        "S_1fine": "4",
    }
    why = "were skipped since they are considered invalid environment variable names, or hold what is not text."
    assert left_out(container, configuration) == [
        f"Keys [1bad, with space] from the EnvFrom configmap default/web {why}",
        f"Keys [S_binary, S_nul] from the EnvFrom secret default/db {why}",
    ]
    assert left_out(container, {}) == []

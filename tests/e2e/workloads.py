"""Small manifests that the end-to-end tests share."""

from __future__ import annotations

import http.client
import textwrap

from cluster.testing import Cluster


def sleeper(name: str, replicas: int, *, labels: str = "", command: str = "sleep 1000", extra: str = "") -> str:
    """A replication controller of pods that run a shell command. `labels` are further ones: "tier: fe"."""
    more = f", {labels}" if labels else ""
    return textwrap.dedent(f"""\
        apiVersion: v1
        kind: ReplicationController
        metadata: {{name: {name}}}
        spec:
          replicas: {replicas}
          selector: {{app: {name}}}
          template:
            metadata: {{labels: {{app: {name}{more}}}}}
            spec:
              terminationGracePeriodSeconds: 1
              containers:
              - {{name: main, command: [sh, -c, "{command}"]{", " + extra if extra else ""}}}
        """)


def pod(name: str, command: str, *, restart: str = "Never", extra: str = "", spec: str = "") -> str:
    """A pod that runs a shell command. `extra` goes into its container, `spec` into its spec, both as flow YAML."""
    return textwrap.dedent(f"""\
        apiVersion: v1
        kind: Pod
        metadata: {{name: {name}, labels: {{app: {name}}}}}
        spec:
          restartPolicy: {restart}
          terminationGracePeriodSeconds: 1
          {spec}
          containers:
          - name: main
            command: [sh, -c, {command!r}]
            {extra}
        """)


def web(name: str, replicas: int, *, grace_s: int = 1, port: int = 8080) -> str:
    """A replication controller of web servers that answer with their pod's name, and its service."""
    program = (
        "import http.server as h, os\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_GET(self):\n"
        "        body = os.environ['HOSTNAME'].encode()\n"
        "        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n"
        "        self.wfile.write(body)\n"
        "    def log_message(self, *a): pass\n"
        f"h.ThreadingHTTPServer((os.environ['POD_IP'], {port}), H).serve_forever()\n"
    )
    return textwrap.dedent(f"""\
        apiVersion: v1
        kind: Service
        metadata: {{name: {name}}}
        spec:
          selector: {{app: {name}}}
          ports: [{{port: {port}}}]
        ---
        apiVersion: v1
        kind: ReplicationController
        metadata: {{name: {name}}}
        spec:
          replicas: {replicas}
          selector: {{app: {name}}}
          template:
            metadata: {{labels: {{app: {name}}}}}
            spec:
              terminationGracePeriodSeconds: {grace_s}
              containers:
              - name: web
                command: [python3, -S, -c, {program!r}]
                ports: [{{containerPort: {port}}}]
                readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}
        """)


def wait_off(cluster: Cluster, node: str, selector: str = "app=web") -> None:
    """Returns when the pods are on their way off a dead node. That the node is NotReady is written first: for a while
    its pods still count as ready, and their controller as complete."""
    cluster.wait_until(
        lambda: node not in {pod.spec.nodeName for pod in cluster.pods(selector)}, f"the pods are taken off {node}"
    )


def fetch(address: tuple[str, int], path: str = "/", timeout_s: float = 20.0) -> tuple[int, str]:
    """Status and body of a GET over a new connection. Raises OSError or http.client.HTTPException."""
    connection = http.client.HTTPConnection(*address, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()

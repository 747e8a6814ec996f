"""Requests to Kubernetes' API of a cluster as nobody's tool sends them."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

import yaml

from cluster.testing import Cluster


class Raw:
    """Asks as the admin, by a token."""

    def __init__(self, cluster: Cluster) -> None:
        config = yaml.safe_load(cluster.podium("kubeconfig", "--token").stdout)
        self.server = config["clusters"][0]["cluster"]["server"]
        self.token = config["users"][0]["user"]["token"]
        self.context = ssl.create_default_context(cafile=str(cluster.directory / "pki" / "admin" / "ca.crt"))

    def request(
        self, method: str, path: str, body: Any = None, media: str = "application/json"
    ) -> urllib.request.Request:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": media}
        return urllib.request.Request(self.server + path, data=data, method=method, headers=headers)

    def ask(self, method: str, path: str, body: Any = None, media: str = "application/json") -> tuple[int, Any, Any]:
        try:
            with urllib.request.urlopen(
                self.request(method, path, body, media), context=self.context, timeout=30
            ) as response:
                return response.status, _json(response.read()), response.headers
        except urllib.error.HTTPError as error:
            return error.code, _json(error.read()), error.headers


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()

"""What a service is given: an address, and for type NodePort a port of the machine for each of its ports.

Kubernetes' rules. What is asked for by name is given if it is free; what is not named is chosen, or on an update stays
as it was. When a service changes its type, what the new type has no use for is taken back. Worked example:

    create  ports [web 80, dns 53/UDP, dns-tcp 53/TCP]   address 127.7.1.0; no node ports, for the type is ClusterIP
    update  type NodePort                                web gets 30156; dns and dns-tcp, of one number, share 30157
    update  web's nodePort: 30080                        30156 is free again
    update  type ClusterIP                               30080 and 30157 are free again; the address stays
    update  type ExternalName, externalName db.example   the address is free again

Pure: pools and stage are handed in; what was taken is given back if the write fails, and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.api.errors import FieldError, Invalid
from cluster.api.services import EXTERNAL_NAME, HEADLESS, NODE_PORT, node_ports
from cluster.master.pools import NodePorts, Pool, ServiceAddresses
from cluster.master.stage import Stage
from cluster.pb.v1 import core_pb2 as core


@dataclass(slots=True)
class ServiceAdmission:
    """The addresses and ports that there are, and who has them."""

    addresses: ServiceAddresses
    ports: NodePorts

    def rebuild(self, specs: Sequence[core.ServiceSpec]) -> None:
        """Takes what existing services have."""
        self.addresses.rebuild(spec.clusterIP for spec in specs)
        self.ports.rebuild(port for spec in specs for port in node_ports(spec))

    def before_create(self, stage: Stage, spec: core.ServiceSpec) -> None:
        """Gives a new service what it needs, in place. Raises Invalid if that is taken, or if there is no more."""
        self._give_address(stage, spec)
        self._give_ports(stage, spec, ())

    def before_update(self, stage: Stage, new: core.ServiceSpec, old: core.ServiceSpec) -> None:
        """Completes an update, in place: what is not named stays, if the type has a use for it. Raises Invalid."""
        if new.type != EXTERNAL_NAME and old.type != EXTERNAL_NAME:
            if not new.clusterIP:
                new.clusterIP = old.clusterIP
        elif new.type == EXTERNAL_NAME:
            if new.clusterIP == old.clusterIP:
                new.ClearField("clusterIP")
            give_back(stage, self.addresses.pool, self.addresses.number(old.clusterIP))
        else:
            if new.externalName == old.externalName:
                new.ClearField("externalName")
            self._give_address(stage, new)
        had = node_ports(old)
        if new.type == NODE_PORT:
            _keep_ports(new, old)
        elif [port.nodePort for port in new.ports] == [port.nodePort for port in old.ports]:
            for port in new.ports:
                port.ClearField("nodePort")
        self._give_ports(stage, new, had)
        for number in had:
            if number not in node_ports(new):
                give_back(stage, self.ports.pool, number)

    def removed(self, stage: Stage, spec: core.ServiceSpec) -> None:
        """Takes back what the service had."""
        give_back(stage, self.addresses.pool, self.addresses.number(spec.clusterIP))
        for number in node_ports(spec):
            give_back(stage, self.ports.pool, number)

    def _give_address(self, stage: Stage, spec: core.ServiceSpec) -> None:
        address = spec.clusterIP
        if address == HEADLESS or spec.type == EXTERNAL_NAME:
            return
        pool = self.addresses.pool
        if address:
            number = self.addresses.number(address)
            if number is None:
                first, last = self.addresses.text(pool.first), self.addresses.text(pool.first + pool.size - 1)
                raise Invalid(
                    f'spec.clusterIP: "{address}" is not of this cluster\'s addresses for services',
                    causes=[
                        FieldError(
                            "spec.clusterIP",
                            f'"{address}" is not an address for services; they are {first} to {last}; '
                            "leave it out to be given one",
                        )
                    ],
                )
            take(stage, pool, number, "spec.clusterIP", address)
            return
        number = pool.take_next()
        if number is None:
            raise Invalid(f"all {pool.size} addresses for services are taken", causes=[])
        stage.claim(lambda: pool.give_back(number))
        spec.clusterIP = self.addresses.text(number)

    def _give_ports(self, stage: Stage, spec: core.ServiceSpec, had: Sequence[int]) -> None:
        """Takes what is asked for and was not `had`, then chooses what is not named."""
        if spec.type != NODE_PORT:
            return  # if it names any, validation says that it may not
        pool, own = self.ports.pool, set(had)
        for index, port in enumerate(spec.ports):
            # One of another protocol may have the same number; of the same protocol, validation says so.
            if port.nodePort and port.nodePort not in own and port.nodePort in pool:
                _take_port(stage, pool, port.nodePort, f"spec.ports[{index}].nodePort")
                own.add(port.nodePort)
        for port in spec.ports:
            if port.nodePort:
                continue
            port.nodePort = _twin(spec, port) or _choose_port(stage, pool)


def _keep_ports(new: core.ServiceSpec, old: core.ServiceSpec) -> None:
    """Ports without a node port keep that of the port of the same name, unless another one takes it."""
    known = {port.name: port.nodePort for port in old.ports}
    used = {(port.protocol, port.nodePort) for port in new.ports if port.nodePort}
    for port in new.ports:
        number = known.get(port.name, 0)
        if not port.nodePort and number and (port.protocol, number) not in used:
            port.nodePort = number
            used.add((port.protocol, number))


def _twin(spec: core.ServiceSpec, port: core.ServicePort) -> int:
    """The node port of another protocol's port of the same number, as DNS has; 0 if there is none."""
    used = {(other.protocol, other.nodePort) for other in spec.ports}
    for other in spec.ports:
        is_twin = other.port == port.port and other.protocol != port.protocol and other.nodePort
        if is_twin and (port.protocol, other.nodePort) not in used:
            return other.nodePort
    return 0


def _choose_port(stage: Stage, pool: Pool) -> int:
    number = pool.take_next()
    if number is None:
        raise Invalid(f"all {pool.size} node ports are taken: use services of type ClusterIP", causes=[])
    stage.claim(lambda: pool.give_back(number))
    return number


def _take_port(stage: Stage, pool: Pool, number: int, path: str) -> None:
    if pool.is_taken(number):
        message = f"Invalid value: {number}: provided port is already allocated{_owner(stage, number)}"
        raise Invalid(f"{path}: {message}", causes=[FieldError(path, message, "FieldValueInvalid")])
    pool.take(number)
    stage.claim(lambda: pool.give_back(number))


def _owner(stage: Stage, number: int) -> str:
    """Who has it, for the message: it is needed seldom, so nobody keeps a table."""
    for version in stage.list("Service"):
        service = version.parse()
        if isinstance(service, core.Service) and number in node_ports(service.spec):
            return f", to service {service.metadata.namespace}/{service.metadata.name}"
    return ""


def take(stage: Stage, pool: Pool, number: int, path: str, text: str) -> None:
    """Takes this number, for as long as the write holds. Raises Invalid: somebody has it."""
    if pool.is_taken(number):
        message = f'"{text}" is already allocated'
        raise Invalid(f"{path}: {message}", causes=[FieldError(path, message)])
    pool.take(number)
    stage.claim(lambda: pool.give_back(number))


def give_back(stage: Stage, pool: Pool, number: int | None) -> None:
    """Gives it back, unless the write fails. None, and what nobody has, is ignored."""
    if number is not None and pool.is_taken(number):
        pool.give_back(number)
        stage.claim(lambda: pool.take(number))

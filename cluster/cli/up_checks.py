"""What `podium up` is given, looked at before anything is started: the daemons would refuse the same a moment later, in
a log. Raises click.UsageError, which names the option."""

from __future__ import annotations

from pathlib import Path

import click


def check_store(store: str, etcd_credentials: str) -> str:
    """The directory of credentials, from wherever the daemons look. Raises UsageError."""
    from cluster.config.etcd_url import parse_etcd_url

    if not store:
        if etcd_credentials:
            raise click.UsageError("--etcd-credentials is for --store")
        return ""
    try:
        parse_etcd_url(store)
    except ValueError as error:
        raise click.UsageError(f"--store: {error}") from error
    if etcd_credentials and not Path(etcd_credentials).is_dir():
        raise click.UsageError(f"--etcd-credentials {etcd_credentials}: there is no such directory")
    return str(Path(etcd_credentials).absolute()) if etcd_credentials else ""


def check_quantities(cpu: str, memory: str, resources: tuple[str, ...]) -> None:
    from cluster.api.quantities import parse_quantity

    pairs = [("--node-cpu", cpu), ("--node-memory", memory)]
    for resource in resources:
        name, equals, amount = resource.partition("=")
        if not name or not equals:
            raise click.UsageError(f'--node-resource "{resource}": write NAME=QUANTITY, such as gpu=2')
        pairs.append((f"--node-resource {name}", amount))
    for option, text in pairs:
        try:
            if text and parse_quantity(text) <= 0:
                raise ValueError("must be greater than 0")
        except ValueError as error:
            raise click.UsageError(f'{option} "{text}": {error}') from error


def check_agent_args(arguments: tuple[str, ...]) -> None:
    """Refuses what a node agent would refuse, before anything is started."""
    from node_agent.flags import FlagError, check_further_flags

    try:
        check_further_flags([f"--{argument.lstrip('-')}" for argument in arguments])
    except FlagError as error:
        raise click.UsageError(f"--agent-arg: {error}") from error


def check_dns(options: tuple[str, ...]) -> None:
    """Refuses what the DNS server would refuse, before anything is started."""
    if not options:
        return
    from cluster.config.errors import ConfigError
    from proxy.dns.flags import read_options

    try:
        read_options(options)
    except ConfigError as error:
        raise click.UsageError(f"--dns: {error}") from error


def check_proxy_args(arguments: tuple[str, ...]) -> None:
    """Refuses what the proxy would refuse, before anything is started."""
    from cluster.config.errors import ConfigError
    from proxy.flags import check_further_flags

    try:
        check_further_flags([f"--{argument.lstrip('-')}" for argument in arguments])
    except ConfigError as error:
        raise click.UsageError(f"--proxy-arg: {error}") from error


def check_scheduler_config(path: str, profile: str) -> str:
    """The file, from wherever the daemons look. Refuses what the manager would refuse, before anything is started."""
    if not path:
        return ""
    from cluster.config.errors import ConfigError
    from cluster.config.profiles import PROFILES
    from cluster.scheduler.configuration import load_settings

    where = Path(path).absolute()
    try:
        load_settings(PROFILES[profile], where)
    except ConfigError as error:
        raise click.UsageError(f"--scheduler-config: {error}") from error
    return str(where)


def check_policies(path: str) -> str:
    """The directory, from wherever the proxy looks."""
    if not path:
        return ""
    where = Path(path).absolute()
    if not where.is_dir():
        raise click.UsageError(f"--policies: {where} is not a directory")
    return str(where)


def check_hollow(nodes: int, hollow: int, arguments: tuple[str, ...]) -> None:
    """Refuses what processes that play nodes would refuse, before anything is started."""
    from node_agent.hollow.flags import FlagError, check_further_flags

    if nodes + hollow == 0:
        raise click.UsageError("--nodes 0: a cluster without nodes runs nothing; add --hollow N to play some")
    if arguments and not hollow:
        raise click.UsageError("--hollow-arg is for --hollow")
    try:
        check_further_flags(hollow, [f"--{argument.lstrip('-')}" for argument in arguments])
    except FlagError as error:
        raise click.UsageError(f"--hollow-arg: {error}") from error

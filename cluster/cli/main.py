"""The `podium` command: a table of verbs, each in a module that is imported only when it is used.

Starting Python and importing gRPC is most of what a short command costs, so nothing is imported before it is needed:
`podium --help` reads this file alone.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from cluster.cli.exits import ExitCode, report

COMMANDS: dict[str, tuple[str, str]] = {
    # verb: (module under cluster.cli, what `podium --help` says)
    "up": ("up", "Start a cluster of real processes"),
    "down": ("down", "Stop a cluster and remove what it wrote"),
    "apply": ("apply", "Create or change objects from manifests"),
    "get": ("get", "List objects"),
    "describe": ("describe", "Show an object with its story"),
    "delete": ("delete", "Delete objects"),
    "create": ("create", "Create a ConfigMap or a Secret from words and files"),
    "scale": ("scale", "Set the number of replicas"),
    "logs": ("logs", "Print the logs of pods"),
    "exec": ("exec", "Run a command beside a container"),
    "attach": ("exec", "Show what a container writes, and type to it"),
    "debug": ("exec", "Run a command as a container would run"),
    "cp": ("cp", "Copy files to and from a container"),
    "port-forward": ("port_forward", "Forward local ports to a pod"),
    "top": ("top", "Show what pods, nodes and services use"),
    "run": ("run", "Run a command as a pod, or as several"),
    "restart": ("run", "Replace the pods of controllers, one by one"),
    "events": ("events", "List what happened"),
    "label": ("label", "Set or remove labels"),
    "wait": ("wait", "Wait for a condition"),
    "expose": ("expose", "Make a service for pods that run already"),
    "url": ("url", "Print the address of a service"),
    "why": ("why", "Say why a pod is where it is, or why it is nowhere"),
    "plan": ("what_if", "Show what apply would do, and what would come of it"),
    "what-if": ("what_if", "Show what would happen if nodes failed, joined, ..."),
    "trace": ("trace", "Show what caused what, from apply to ready"),
    "history": ("history", "Show what became of an object, and who did it"),
    "diff": ("diff", "Show what is different between two moments"),
    "undo": ("undo", "Bring back what an object was before"),
    "cordon": ("nodes", "Take no new pods on a node"),
    "uncordon": ("nodes", "Take new pods on a node again"),
    "drain": ("drain", "Move the pods off a node"),
    "rebalance": ("rebalance", "Move pods that had better be on other nodes"),
    "fault": ("fault", "Let something go wrong on purpose, for a while"),
    "hollow": ("hollow", "Play nodes that run nothing, by the thousand"),
    "backup": ("backup", "Write everything that a cluster keeps into a file"),
    "restore": ("restore", "Make a cluster what it was when it was backed up"),
    "fsck": ("fsck", "Check the store of a cluster that does not run, or a backup"),
    "doctor": ("doctor", "Say what this machine has for running pods, and lacks"),
    "cluster-info": ("info", "Name every process, with role, pid and address"),
    "kubeconfig": ("kubeconfig", "Print what kubectl needs to talk to a cluster"),
    "version": ("info", "Print versions"),
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"cluster.cli.{entry[0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_").removesuffix("_") + "_command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output went away (`podium get pods | head -1`): no error of ours, though one to click.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in the buffer
            return ExitCode.OK

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f'there is no command "{args[0]}"{_hint(args[0])} See: podium --help')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in COMMANDS.items()])


def _hint(word: str) -> str:
    """What may have been meant instead of a command, with the end of the sentence."""
    import difflib

    from cluster.api.errors import Invalid
    from cluster.api.kinds import kind_from_word

    try:
        return f"; to see {kind_from_word(word).plural}: podium get {word}."
    except Invalid:
        close = difflib.get_close_matches(word, COMMANDS, n=1)
        return f'; did you mean "{close[0]}"?' if close else "."


def _print_versions(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    """`podium --version` is `podium version`."""
    if wanted and not ctx.resilient_parsing:
        from cluster.cli.info import version_command

        ctx.invoke(version_command, output="text")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="\b\nExamples:\n  podium up                      start a cluster, Ctrl-C stops it\n"
    "  podium apply -f examples/guestbook\n  podium get pods -o wide",
)
@click.option("--cluster", metavar="NAME", help="Which cluster; default: $PODIUM_CLUSTER, or the only one running.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Print versions, as podium version does.",
)
@click.pass_context
def podium(ctx: click.Context, cluster: str | None) -> None:
    """A container cluster you can run, read and trust."""
    ctx.obj = {"cluster": cluster}


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code (see cluster.cli.exits). Also the console script."""
    try:
        result = podium.main(args=argv, prog_name="podium", standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.OK
    except click.UsageError as error:
        error.show()
        return ExitCode.USAGE
    except click.exceptions.Abort:
        return ExitCode.INTERRUPTED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:
        return report(error)


if __name__ == "__main__":
    sys.exit(main())

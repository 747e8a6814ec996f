"""Commands that end with a command line of somebody else: `podium run web --replicas 3 -- python3 server.py`."""

from __future__ import annotations

import click


class CommandWithDashes(click.Command):
    """As kubectl has it: before `--` options may stand anywhere, also behind names; what follows is left as it is.

    Without a `--`, options end at the first name.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_interspersed_args = "--" in args
        ctx.ignore_unknown_options = "--" not in args
        return super().parse_args(ctx, args)

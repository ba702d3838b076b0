"""`python -m benchmarks`: one command for each benchmark."""

from __future__ import annotations

import click

from benchmarks import (
    decisions,
    growth,
    latency,
    refusals,
    resources,
    scale_out,
    sends,
    together,
    webhooks,
)


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Measure the bot; exit with 1 only if a result is wrong.

    The default command is `webhooks`.
    """
    if context.invoked_subcommand is None:
        context.invoke(webhooks.measure)


main.add_command(webhooks.measure)
main.add_command(decisions.measure)
main.add_command(latency.measure)
main.add_command(sends.measure)
main.add_command(together.measure)
main.add_command(resources.measure)
main.add_command(refusals.measure)
main.add_command(scale_out.measure)
main.add_command(growth.measure)
main.add_command(growth.purge)

if __name__ == "__main__":
    main()

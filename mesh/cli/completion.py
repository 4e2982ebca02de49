"""`mesh completion`: the script by which a shell completes commands and options.

Owns which shells have one; click makes the scripts.
"""

from typing import Final

import click
from click.shell_completion import get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_MESH_COMPLETE"  # what the shell sets to ask for completions


@click.command(short_help="Print the script that makes your shell complete `mesh`.")
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print the script that makes your shell complete `mesh`: its commands, verbs and options.

    \b
    eval "$(mesh completion bash)"                                in ~/.bashrc
    eval "$(mesh completion zsh)"                                 in ~/.zshrc, behind compinit
    mesh completion fish > ~/.config/fish/completions/mesh.fish   once
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "mesh", VARIABLE).source())

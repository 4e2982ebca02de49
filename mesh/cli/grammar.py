"""The command line's grammar: a noun, then a verb. A noun without a verb lists.

Owns how words become a command, and what completion offers for them. It must not know any command:
each noun's module gives its verbs.
"""

from difflib import get_close_matches
from typing import Any, ClassVar, Final

import click
from click.shell_completion import CompletionItem

LIST: Final = "list"
SHOW: Final = "show"
_HELP: Final = frozenset({"-h", "--help"})


class NounGroup(click.Group):
    """`mesh NOUN VERB`; `mesh NOUN` and `mesh NOUN --option` are `mesh NOUN list`."""

    bare: ClassVar[str] = LIST

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("subcommand_metavar", "[VERB] [ARGS]...")
        super().__init__(*args, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # completion asks what may come next: after the noun alone, a verb
        is_asked = ctx.resilient_parsing and not args
        if not is_asked and (verb := self.verb_of(args)) is not None:
            args = [verb, *args]
        return super().parse_args(ctx, args)

    def verb_of(self, args: list[str]) -> str | None:
        """The verb that is meant if the arguments do not begin with one; None if they do."""
        is_bare = not args or (args[0].startswith("-") and args[0] not in _HELP)
        return self.bare if is_bare else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not ctx.resilient_parsing:
            ctx.fail(self._unknown(ctx, args[0]))
        return super().resolve_command(ctx, args)

    def _unknown(self, ctx: click.Context, word: str) -> str:
        close = get_close_matches(word, self.commands, n=1)
        if close:
            hint = f"did you mean `{ctx.command_path} {close[0]}`?"
        elif SHOW in self.commands:
            hint = f"to see one by its id: `{ctx.command_path} {SHOW} {word}`"
        else:
            hint = f"`{ctx.command_path} --help` lists what there is"
        return f"`{ctx.command_path}` has no command {word!r}; {hint}"

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-") and self.bare in self.commands:
            bare = self.commands[self.bare]
            found += bare.shell_complete(click.Context(bare, parent=ctx, resilient_parsing=True), incomplete)
        return list({item.value: item for item in found}.values())


class ShowGroup(NounGroup):
    """A noun of which there is one: without a verb it is shown."""

    bare: ClassVar[str] = SHOW


class ShortForm(NounGroup):
    """`mesh NOUN ID` for `mesh NOUNS show ID`: a word that is not a verb is an id."""

    def verb_of(self, args: list[str]) -> str | None:
        if not args:
            return LIST
        is_show = args[0] not in self.commands and args[0] not in _HELP
        return SHOW if is_show else None

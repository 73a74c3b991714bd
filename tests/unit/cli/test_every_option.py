"""The whole tree of commands: each command and each option is in the manual, and says in its help what it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from orchestrator.cli.main import cli

MANUAL = (Path(__file__).resolve().parents[3] / "docs" / "manual.md").read_text(encoding="utf-8")


def tree(command: click.Command, words: tuple[str, ...], above: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(words), command
    if isinstance(command, click.Group):
        for name in command.list_commands(above):
            one = command.get_command(above, name)
            assert one is not None
            yield from tree(one, (*words, name), click.Context(one, parent=above, info_name=name))


COMMANDS = dict(tree(cli, (), click.Context(cli, info_name="raftsman")))
OPTIONS = [
    pytest.param(option, id=f"{words} {option.opts[-1]}")
    for words, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
]


def written(flag: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", MANUAL) is not None


@pytest.mark.parametrize("words", [words for words in COMMANDS if words and words != "apply"])
def test_a_command_is_in_the_manual_and_has_a_help(words: str) -> None:
    group, _, name = words.rpartition(" ")
    assert re.search(rf"`(raftsman )?{group}[^`\n]*\b{re.escape(name)}\b", MANUAL), words
    assert COMMANDS[words].help


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_in_the_manual_and_has_a_help(option: click.Option) -> None:
    assert option.help
    flags = [*option.opts, *option.secondary_opts]
    assert any(written(flag) for flag in flags), flags


@pytest.mark.parametrize("command", ["peer", "agent", "gateway"])
def test_the_tables_of_the_processes_have_every_flag(command: str) -> None:
    table = MANUAL.partition(f"| flags of `raftsman {command}` |")[2].partition("\n\n")[0]
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", "".join(row.split(" | ")[0] for row in table.splitlines())))
    assert told == {option.opts[-1] for option in COMMANDS[command].params if isinstance(option, click.Option)}

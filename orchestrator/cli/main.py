"""``raftsman``: finds the command, runs it, and turns what went wrong into one line and an exit code.

Owns: the list of commands and the loading of each on its call; errors, Ctrl-C and broken pipes. Commands of other
layers (``peer``, ``dev``, ``drill`` ...) come by entry point ``raftsman.commands``. The rule: no command's module is
imported before it is called; help comes from the table below.
"""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Any

# Before gRPC is loaded: its log lines on stderr (a refused connection while a peer is down) are not for users.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import click

from orchestrator.cli.lazy import Lazy
from orchestrator.cli.session import common
from orchestrator.contract.errors import ExitCode, RaftsmanError, UnknownOutcomeError

_OWN: dict[str, tuple[str, str, str]] = {
    "run": ("orchestrator.cli.run", "run", "Start or change a job: from FILE, or '-- COMMAND...'."),
    "apply": ("orchestrator.cli.run", "run", "The same as run."),
    "ps": ("orchestrator.cli.ps", "ps", "Jobs and their allocations."),
    "status": ("orchestrator.cli.ps", "status", "One job in detail."),
    "logs": ("orchestrator.cli.logs", "logs", "What a job's tasks wrote."),
    "exec": ("orchestrator.cli.exec", "exec_", "Run a command in a task, with a terminal if wanted."),
    "cp": ("orchestrator.cli.cp", "cp", "Copy files between here and a task."),
    "port-forward": ("orchestrator.cli.forward", "port_forward", "Reach a port of a task at 127.0.0.1."),
    "top": ("orchestrator.cli.top", "top", "What nodes, tasks and GPUs use now."),
    "why": ("orchestrator.cli.ps", "why", "Why a job is not running, and what would change it."),
    "plan": ("orchestrator.cli.foresight", "plan", "What running FILE would change, and where everything would go."),
    "what-if": ("orchestrator.cli.foresight", "what_if", "What would happen: drain, lose, add-node, submit."),
    "rebalance": (
        "orchestrator.cli.rebalance",
        "rebalance",
        "Move instances so that fewer nodes are used, or none is a hot spot.",
    ),
    "services": ("orchestrator.cli.services", "services", "Who answers under which name: ready instances."),
    "workload": ("orchestrator.cli.services", "workload", "What an instance's tasks say of themselves."),
    "stop": ("orchestrator.cli.jobs", "stop", "Stop a job."),
    "rm": ("orchestrator.cli.jobs", "remove", "Stop a job and forget it."),
    "scale": ("orchestrator.cli.jobs", "scale", "Change how many instances run."),
    "restart": ("orchestrator.cli.jobs", "restart", "Replace a job's instances, one at a time."),
    "rollback": ("orchestrator.cli.revisions", "rollback", "Go back to an older version of a job."),
    "versions": ("orchestrator.cli.revisions", "versions", "What a job is and was."),
    "diff": ("orchestrator.cli.revisions", "diff", "What differs between two versions of a job."),
    "pause": ("orchestrator.cli.revisions", "pause", "Hold a job's rollout where it is."),
    "resume": ("orchestrator.cli.revisions", "resume", "Let a job's rollout go on."),
    "promote": ("orchestrator.cli.revisions", "promote", "A job's canaries are good: replace the others, too."),
    "job": ("orchestrator.cli.job", "job", "Runs of templates: dispatch, periodic force, runs."),
    "nodes": ("orchestrator.cli.nodes", "nodes", "Machines: their state and what is used of them."),
    "node": ("orchestrator.cli.nodes", "node", "Show, cordon, drain, uncordon, taint or forget a machine."),
    "peers": ("orchestrator.cli.peers", "peers", "The control plane: leader, term, lag, certificates; reset a peer."),
    "events": ("orchestrator.cli.events", "events", "What happened."),
    "var": ("orchestrator.cli.variables", "var", "Small replicated values that tasks can use."),
    "namespace": ("orchestrator.cli.namespaces", "namespace", "Namespaces: quotas, and what is used of them."),
    "settings": ("orchestrator.cli.namespaces", "settings", "How the cluster behaves: preemption, strict namespaces."),
    "placements": ("orchestrator.cli.placements", "placements", "The ways to choose nodes, and the default."),
    "limits": ("orchestrator.cli.limits", "limits", "What the cluster keeps, for how long."),
    "context": ("orchestrator.cli.context", "context", "Which cluster to talk to."),
    "schema": ("orchestrator.cli.about", "schema", "The JSON Schema of job files."),
    "version": ("orchestrator.cli.about", "version", "Version of this program."),
}
"""Name: module, attribute, help."""
_BY_ENTRY_POINT: dict[str, str] = {
    "dev": "A whole cluster on this machine.",
    "drill": "Kill the leader (or more) and measure what anybody notices.",
    "doctor": "What is wrong here, and what to do about it.",
    "check-history": "Whether what clients were answered is linearizable.",
    "peer": "Run a peer of the control plane.",
    "agent": "Run the agent of a worker machine.",
    "gateway": "Run the HTTP gateway.",
    "certs": "Make an authority and certificates.",
    "backup": "Write the cluster's whole state to a file, or verify one.",
    "restore": "Every disk is lost: make a peer's data directory from a backup.",
    "recover": "A majority is lost: go on with one surviving disk.",
    "pack": "How well a cluster is packed, by files of it, and how well it could be.",
}
"""Help for the commands that we know to come by entry point: listing them must not import them."""


_EXTRAS = {
    **dict.fromkeys(("peer", "certs", "peers", "restore", "recover", "pack"), "peer"),
    "agent": "agent",
    "gateway": "gateway",
}
"""Command: the extra that brings what it imports; the others need all of them."""


_ENDLESS = re.compile(r"\S{1000,}")


def _missing(command: str, error: ModuleNotFoundError) -> click.ClickException | ModuleNotFoundError:
    """What to install; a missing module of our own is a defect and stays one."""
    module = (error.name or "").partition(".")[0]
    if module in ("", "orchestrator", "agent", "raftsman"):
        return error
    extra = _EXTRAS.get(command, "all")
    return click.ClickException(
        f"'{command}' needs more than a client install has ({module} is missing): pip install 'raftsman[{extra}]'"
    )


class _Commands(Lazy):
    own = _OWN
    points = "raftsman.commands"

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        try:
            return super().get_command(ctx, cmd_name)
        except ModuleNotFoundError as error:
            raise _missing(cmd_name, error) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:  # what a command imports only once it runs
            raise _missing(ctx.invoked_subcommand or "", error) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            import difflib

            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"; did you mean '{close[0]}'?" if close else "; 'raftsman --help' lists them"
            raise click.UsageError(f"no such command '{name}'{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _OWN.items() if name != "apply"])
        with formatter.section("Clusters and processes"):
            points = self.entry_points()
            known = [(name, text) for name, text in _BY_ENTRY_POINT.items() if name in points]
            others = [(name, f"(from {points[name].module})") for name in sorted(set(points) - set(_BY_ENTRY_POINT))]
            formatter.write_dl([*known, *others])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Raftsman: a cluster that you can start, use and kill.",
    no_args_is_help=True,
)
@click.version_option(package_name="raftsman", prog_name="raftsman", message="%(prog)s %(version)s")
@common
def cli(session: object) -> None:
    """Options before the command hold for it too."""


def _hint(error: RaftsmanError) -> str:
    if error.exit_code is not ExitCode.NO_LEADER:
        return ""
    if "certificate" in error.message:
        return (
            "\n  The certificates of this context and of the peers must be valid and of one authority: "
            "'raftsman context show' says which this one is; where the authority is, 'raftsman certs show' lists them, "
            "and 'raftsman certs issue --renew' renews."
        )
    if isinstance(error, UnknownOutcomeError) and error.reason == UnknownOutcomeError.reason:
        return (
            "\n  It may have been done, or be done yet: look before you repeat it. With more time (--timeout) it would "
            "have been repeated until it was answered; whether peers are missing shows 'raftsman peers'."
        )
    return (
        "\n  Writes need a majority of peers. See who is missing with 'raftsman peers', and start them again: "
        "'raftsman dev' for a dev cluster, 'docker compose up -d' for compose, 'raftsman peer' elsewhere."
    )


def _told(text: str) -> None:
    """One error; what a caller gave is shown, but a word of many thousands of letters is not."""
    click.echo(f"raftsman: {_ENDLESS.sub(lambda word: word[0][:200] + '...', text)}", err=True)


def run(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Never raises for what a user can cause."""
    try:
        code = cli.main(args=arguments, prog_name="raftsman", standalone_mode=False)
        sys.stdout.flush()
        return int(code) if isinstance(code, int) else ExitCode.OK
    except RaftsmanError as error:
        _told(f"{error.message}{_hint(error)}")
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return ExitCode.OK
    except click.UsageError as error:
        where = f" (see '{error.ctx.command_path} --help')" if error.ctx is not None else ""
        _told(f"{error.format_message()}{where}")
        return ExitCode.USAGE
    except click.ClickException as error:
        _told(error.format_message())
        return ExitCode.ERROR
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130  # click has ended the line that ^C stands in
    except BrokenPipeError:
        # Whoever read us has enough. Python would complain once more when it flushes at exit: point it elsewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        reason = error.strerror or str(error)
        _told(f"{error.filename}: {reason}" if error.filename else reason)
        return ExitCode.ERROR


def main() -> None:
    _fill_closed()
    _write_what_can_be_written()
    sys.exit(run())


def _fill_closed() -> None:
    """Standard streams that whoever started us has closed (``>&-``) lead nowhere: else the next file or connection
    would get their number, and what we print."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))


def _write_what_can_be_written() -> None:
    """A letter that the locale lacks (Latin-1, and a name in Greek) ends no command: ``\\u03b1`` stands there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()

"""``peers wait``: for scripts that restart or replace peers one after the other."""

from __future__ import annotations

import time

import click

from orchestrator.cli.session import Session, common

LIMIT_S = 60.0
PAUSE_S = 0.2


@click.command("wait")
@common
def wait(session: Session) -> None:
    """Return when every peer is connected, votes and has caught up: then the next one may be stopped.

    Exits with 5 when that takes longer than --timeout (60 s when unsaid), and says who is missing.
    """
    from orchestrator.client.health import unready
    from orchestrator.contract.errors import RaftsmanError, TimeoutError_

    limit_s = LIMIT_S if session.timeout_s is None else session.timeout_s
    deadline = time.monotonic() + limit_s
    with session.client() as client:
        while True:
            try:
                problem = unready(client.at_most(min(5.0, limit_s)).cluster_status())
            except RaftsmanError as error:
                if not error.retryable and not isinstance(error, TimeoutError_):
                    raise
                problem = error.message
            if not problem:
                session.note("every peer is connected, votes and has caught up")
                return
            if time.monotonic() + PAUSE_S >= deadline:
                raise TimeoutError_(f"not within {limit_s:g} s: {problem}")
            time.sleep(PAUSE_S)

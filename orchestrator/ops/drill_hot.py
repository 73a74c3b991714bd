"""``HotOperation``: one read or write of a key that several clients use, and what became of it.

Owns: its call, asking again with its request id until its outcome is known, and its line of the history. Leaves to
others: which and when (``drill_load``). The rule: an outcome is called certain only when an answer or the error says
so.
"""

from __future__ import annotations

import asyncio
import time
import uuid

from orchestrator.client.aio import Client
from orchestrator.contract import answers
from orchestrator.contract.errors import RaftsmanError, TimeoutError_, UnknownOutcomeError
from orchestrator.ops.history import UNCONDITIONAL, Op, Operation, Unset

OPS = ("get", "put", "create", "cas", "delete", "delete-if")
FIRST_TRY_S = 1.0
"""An operation's own peer has so long; then any peer is asked."""
NEXT_TRY_S = 5.0
RESOLVE_S = 15.0
"""An outcome that cannot be learnt for so long stays unknown."""
RETRY_S = 0.05


class HotOperation:
    """Tried at one client, then asked for again at another with its request id, until its outcome is known.

    ``what`` is one of ``OPS``; ``last`` is what its process saw last under the key, which cas and delete-if expect.
    """

    def __init__(self, what: str, key: str, last: str | None, ways: tuple[Client, Client]) -> None:
        self.op: Op = "get"
        self.key = key
        self._value: str | None = None  # written
        self._expect: str | Unset | None = UNCONDITIONAL
        if what in ("put", "create", "cas"):
            self.op, self._value = "put" if what == "put" else "cas", uuid.uuid4().hex
        elif what in ("delete", "delete-if"):
            self.op = "delete"
        if what == "create":
            self._expect = None
        elif what == "cas" or (what == "delete-if" and last is not None):  # there is no deleting of what is not there
            self._expect = last
        self._first, self._next = ways[0].at_most(FIRST_TRY_S), ways[1].at_most(NEXT_TRY_S)
        self._request_id = uuid.uuid4().hex

    async def outcome(self) -> tuple[bool | None, answers.VariableResult | None]:
        """``Operation.ok``, and the answer (None: none within ``RESOLVE_S``). Raises what no retry changes."""
        deadline = time.monotonic() + RESOLVE_S
        client, maybe_done = self._first, False
        while True:
            try:
                return True, await self._call(client)
            except RaftsmanError as error:
                if not may_pass(error):
                    raise
                maybe_done = maybe_done or isinstance(error, (TimeoutError_, UnknownOutcomeError))
            if time.monotonic() > deadline:
                return (None if maybe_done else False), None
            client = self._next
            await asyncio.sleep(RETRY_S)

    async def _call(self, client: Client) -> answers.VariableResult:
        key, value, expect, request_id = self.key, self._value or "", self._expect, self._request_id
        match self.op:
            case "get":
                return await client.get_variable(key)
            case "put":
                return await client.put_variable(key, value, request_id=request_id)
            case "cas" if isinstance(expect, str):
                return await client.compare_and_set_variable(key, expect, value, request_id=request_id)
            case "cas":
                return await client.create_variable(key, value, request_id=request_id)
            case "delete":
                wanted = expect if isinstance(expect, str) else None
                return await client.delete_variable(key, expect=wanted, request_id=request_id)

    def noted(
        self, process: int, ok: bool | None, answer: answers.VariableResult | None, call_ns: int, return_ns: int
    ) -> Operation:
        """Its line of the history."""
        value = self._value
        if self.op == "get" and answer is not None and answer.variable is not None:
            value = answer.variable.value
        return Operation(
            process=process,
            op=self.op,
            key=self.key,
            value=value,
            expect=self._expect,
            hit=answer.hit if answer is not None else False,
            ok=ok,
            call_ns=call_ns,
            return_ns=return_ns,
            index=answer.index if answer is not None else 0,
        )


def may_pass(error: RaftsmanError) -> bool:
    """Not done, or nobody knows: the same request id makes asking again harmless."""
    return error.retryable or isinstance(error, TimeoutError_)

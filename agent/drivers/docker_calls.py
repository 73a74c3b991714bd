"""Calls of the Docker SDK for a loop that must not block: threads with deadlines, streams, and what their ends mean.

Owns: the bound on calls at once, streams that may be silent for ever, telling an engine that does not answer from one
that says no. Leaves to others: what is called, the client (``docker_client``). The rule: the SDK blocks, so every call
runs in a thread of its own with a deadline, and every stream has a client without one, that is closed with it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import docker
import docker.errors
import docker.types.daemon
import docker.utils
import requests.exceptions

from agent.driver import DriverUnavailableError, StartError
from agent.drivers.docker_client import connect

CALL_S = 30.0
MAX_CALLS = 32
"""At once. With fewer a hundred containers take longer to start (figures: docs/manual.md, Measuring); with more, each
call on a slow engine would come near ``CALL_S``."""
T = TypeVar("T")


class Calls:
    """Of one driver: call it with what is to be done with a client."""

    def __init__(self) -> None:
        self._connected: docker.APIClient | None = None
        self._turns = asyncio.Semaphore(MAX_CALLS)
        self._streams: set[Any] = set()

    async def __call__(self, work: Callable[[docker.APIClient], T], *, slow: bool = False) -> T:
        """``work`` in a thread; a dead engine becomes ``DriverUnavailableError``. ``slow`` calls wait for nobody."""
        if slow:
            return await in_thread(lambda: work(self._api()))
        async with self._turns:
            return await in_thread(lambda: work(self._api()))

    def _api(self) -> docker.APIClient:
        """The client for everything but streams; made when first needed."""
        if self._connected is None:
            self._connected = connect(CALL_S)
        return self._connected

    async def stream(self, open_: Callable[[docker.APIClient], Any], *, first: Any = None) -> AsyncIterator[Any]:
        """Items of a blocking stream that may be silent for ever; the connection is its own and ends with it.

        ``first``: an item for when it is open.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(64)

        def open_stream() -> tuple[docker.APIClient, Any]:
            api = connect(CALL_S)
            try:
                return api, open_(api)
            except BaseException:
                api.close()
                raise

        opening = asyncio.ensure_future(in_thread(open_stream))
        try:
            api, stream = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)  # the thread cannot be stopped halfway
            raise
        self._streams.add(stream)
        if first is not None:
            queue.put_nowait(("item", first))

        def put(kind: str, item: Any) -> None:
            # Waits while the reader is slow; a loop that is gone, or that ends meanwhile, ends the thread.
            asyncio.run_coroutine_threadsafe(queue.put((kind, item)), loop).result()

        def read() -> None:
            with contextlib.suppress(RuntimeError, concurrent.futures.CancelledError, BaseExceptionGroup):
                try:
                    for item in stream:
                        put("item", item)
                    put("end", None)
                except (
                    OSError,
                    ValueError,
                    requests.exceptions.RequestException,
                    docker.errors.DockerException,
                ) as error:
                    put("error", error)

        threading.Thread(target=read, name="docker-stream", daemon=True).start()
        try:
            while True:
                kind, item = await queue.get()
                if kind == "item":
                    yield item
                elif kind == "end":
                    return
                else:
                    raise DriverUnavailableError(f"the engine's stream broke: {item}")
        finally:
            self._streams.discard(stream)
            with contextlib.suppress(Exception):
                stream.close()
            api.close()
            while not queue.empty():
                queue.get_nowait()

    def close(self) -> None:
        for stream in list(self._streams):
            stream.close()
        if self._connected is not None:
            self._connected.close()


def _close_late(opened: asyncio.Future[tuple[docker.APIClient, Any]]) -> None:
    """A stream that was opened for nobody any more."""
    if not opened.cancelled() and opened.exception() is None:
        api, stream = opened.result()
        with contextlib.suppress(Exception):
            stream.close()
        api.close()


async def in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that nobody has to wait for when the process ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = work()
        except (docker.errors.APIError, StartError, DriverUnavailableError) as expected:
            error = expected
        except requests.exceptions.Timeout:
            error = DriverUnavailableError("the Docker engine does not answer: it takes calls and says nothing")
        except (requests.exceptions.RequestException, docker.errors.DockerException, OSError) as broken:
            error = DriverUnavailableError(f"the Docker engine does not answer: {broken}")
        except BaseException as bug:
            error = bug
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name="docker-call", daemon=True).start()
    return await future


def open_response(api: docker.APIClient, path: str, params: dict[str, str]) -> Any:
    """A response that may go on for ever; it has to begin in time."""
    response = api.get(f"{api.base_url}/v{api.api_version}/{path}", params=params, stream=True, timeout=CALL_S)
    check(response)
    connection: Any = response.raw.connection
    connection.sock.settimeout(None)
    return response


def open_events(api: docker.APIClient, filters: dict[str, Any]) -> Any:
    response = open_response(api, "events", {"filters": docker.utils.convert_filters(filters)})
    lines = (json.loads(line) for line in response.iter_lines(chunk_size=None) if line)
    return docker.types.daemon.CancellableStream(lines, response)


def check(response: Any) -> None:
    try:
        response.raise_for_status()
    except requests.exceptions.HTTPError as error:
        raise docker.errors.create_api_error_from_http_exception(error) from error


def why(error: docker.errors.APIError) -> str:
    return str(error.explanation or error).strip()

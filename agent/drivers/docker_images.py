"""Images: what is here, what a name means at its registry now, and fetching it; one pull per image at a time.

Owns: pull policies, digests, credentials, progress, the bound on silence. Leaves to others: which digest all
instances of a version run (``agent.pins``). The rules: a pull may take as long as it likes and only silence ends it
(the operator says how long a silence); a registry that is away is silent, too, and is asked again until then; who waits
for an image that is being fetched waits for that pull, and those who want to know at the same time whether one is here,
or what it is at its registry, ask once; a password is in a request's header and nowhere else.

Credentials are the job's own, else what this node's Docker configuration says (``~/.docker/config.json`` or
``DOCKER_CONFIG``: logins and credential helpers), read anew for every pull.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import docker
import docker.auth
import docker.errors
import docker.types.daemon
import requests.exceptions

from agent.driver import MIB, Login, RunSpec, StartError
from agent.drivers.docker_arguments import reference, repository
from orchestrator.contract.images import IMAGE_LENGTH_MAX, IMAGES_MAX, split, written
from orchestrator.contract.model import ContainerSpec, PullPolicy

ASK_S = 30.0
REPORT_S = 1.0
K = TypeVar("K")
T = TypeVar("T")
Call = Callable[[Callable[[docker.APIClient], T]], Awaitable[T]]
AGAIN_S = (1.0, 15.0)
"""A registry that is away is asked again after the first, each time after twice as long, at most after the second."""
_REFUSED = ("unauthorized", "denied", "authentication required", "no basic auth", "forbidden")
_UNKNOWN = ("manifest unknown", "not found", "name unknown", "invalid reference", "not exist")
_AWAY = (
    "connection refused", "connection reset", "broken pipe", "server misbehaving", "name resolution",
    "no route to host", "unreachable", "timeout", "timed out", "deadline exceeded", "request canceled", " eof",
    "toomanyrequests", "too many requests", "unexpected http status: 5", "internal server error", "bad gateway",
    "service unavailable",
)  # fmt: skip
"""What passes without anybody changing the job: as a registry, a proxy or a resolver that is restarted says it."""


class AwayError(StartError):
    """The image's registry cannot be asked now."""


@dataclass(slots=True)
class _Pull:
    """One that is under way. ``told``: how far it is."""

    image: str  # as the first who asked calls it
    login: Login | None
    task: asyncio.Task[None] | None = None
    waiting: int = 0
    told: str = ""
    stream: Any = None
    stopped: bool = False
    listeners: list[Callable[[str], None]] = field(default_factory=list)

    def tell(self, text: str) -> None:
        self.told = text
        for listener in list(self.listeners):
            listener(text)

    def stop(self) -> None:
        self.stopped = True
        if self.stream is not None:
            self.stream.close()


class _Shared(Generic[K, T]):
    """Answers that many want at once, as the hundred instances of a job do: an engine or a registry is not asked a
    hundred times. Whoever comes while a question is on its way shares the next one, so no answer is older than what its
    asker knew."""

    def __init__(self) -> None:
        self._asked: dict[K, asyncio.Task[T]] = {}  # and not answered yet
        self._to_ask: dict[K, asyncio.Task[T]] = {}  # and not asked yet

    async def __call__(self, about: K, call: Call[T], question: Callable[[docker.APIClient], T]) -> T:
        asking = self._to_ask.get(about)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(self._ask(about, call, question))
            self._to_ask[about] = asking
            asking.add_done_callback(lambda task: task.cancelled() or task.exception())  # all may have given up
        return await asyncio.shield(asking)

    async def _ask(self, about: K, call: Call[T], question: Callable[[docker.APIClient], T]) -> T:
        before = self._asked.get(about)
        if before is not None:
            await asyncio.wait({before})
        this = self._asked[about] = self._to_ask[about]

        def ask(api: docker.APIClient) -> T:
            self._to_ask.pop(about, None)  # it may have waited for its turn until now; who comes later is too late
            return question(api)

        try:
            return await call(ask)
        finally:
            if self._to_ask.get(about) is this:  # it could not be asked at all
                del self._to_ask[about]
            if self._asked.get(about) is this:
                del self._asked[about]


class Images:
    """``call`` runs short blocking work in a thread, ``slow`` what may take long; ``silence_s``: see above."""

    def __init__(self, call: Any, slow: Any, *, silence_s: float) -> None:
        self._call = call
        self._slow = slow
        self._silence_s = silence_s
        self._pulls: dict[str, _Pull] = {}
        self._looks: _Shared[str, dict[str, Any] | None] = _Shared()
        self._asks: _Shared[tuple[str, Login | None], str] = _Shared()

    async def resolve(self, spec: RunSpec) -> str | None:
        """The digest of the task's image by its pull policy; "" where there is none that says the same elsewhere, None
        where its registry does not say without a pull."""
        return await self._patiently(spec, self._resolve)

    async def ensure(self, spec: RunSpec) -> None:
        """Have the image (``reference``) on this node. Raises ``StartError``."""
        await self._patiently(spec, self._ensure)

    async def _patiently(self, spec: RunSpec, ask: Callable[[RunSpec], Awaitable[T]]) -> T:
        """``ask``, again and again while the registry is away, for as long as a pull may be silent."""
        began_s, pause_s = time.monotonic(), AGAIN_S[0]
        while True:
            try:
                return await ask(spec)
            except AwayError as error:
                left_s = began_s + self._silence_s - time.monotonic()
                if left_s <= 0:
                    raise
                if spec.progress is not None:
                    spec.progress(f"{error.reason}; asked again until it does")
                await asyncio.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, AGAIN_S[1])

    async def _resolve(self, spec: RunSpec) -> str | None:
        image = spec.task.image
        if "@" in image:
            return ""  # says it itself
        policy = _policy(spec)
        if policy is not PullPolicy.ALWAYS:
            here = await self._here(image)
            if here is not None:
                return _digest_of(here, image)
            if policy is PullPolicy.NEVER:
                raise _not_here(image)
        login = spec.login
        try:
            return await self._asks((image, login), self._slow, lambda api: _ask_registry(api, image, login))
        except docker.errors.APIError as error:
            text = _why(error)
            if policy is PullPolicy.ALWAYS or _is(text, _REFUSED):
                raise _failed(image, text, login) from error
            return None  # an old registry, a mirror: the pull itself will tell

    async def _ensure(self, spec: RunSpec) -> None:
        image, policy = reference(spec), _policy(spec)
        # What was asked for by name and has no digest is fetched anew where that was said; a digest never changes.
        fresh = policy is PullPolicy.ALWAYS and "@" not in image
        while fresh or await self._here(image) is None:
            if policy is PullPolicy.NEVER:
                raise _not_here(image)
            if await self._pulled(image, spec):
                break
        if spec.digest and await self._here(spec.task.image) is None:
            await self._call(lambda api: _name(api, spec.task.image, image))

    async def _here(self, image: str) -> dict[str, Any] | None:
        """What the engine says of an image now, None where it does not have it."""
        return await self._looks(image, self._call, lambda api: _inspect(api, image))

    async def _pulled(self, image: str, spec: RunSpec) -> bool:
        """Wait for a pull of the image, or do one. False: look again, somebody else's had other credentials."""
        pull = self._pulls.get(image)
        own = pull is None or pull.stopped
        if pull is None or pull.stopped:
            pull = self._pulls[image] = _Pull(spec.task.image, spec.login)
            pull.task = asyncio.get_running_loop().create_task(self._pull(image, pull))
        assert pull.task is not None
        pull.waiting += 1
        if spec.progress is not None:
            pull.listeners.append(spec.progress)
            if pull.told:
                spec.progress(pull.told)
        try:
            await asyncio.shield(pull.task)
        except StartError:
            if own or pull.login == spec.login:
                raise
            return False
        finally:
            pull.waiting -= 1
            if spec.progress is not None:
                pull.listeners.remove(spec.progress)
            if not pull.waiting and not pull.task.done():
                pull.stop()  # nobody wants it any more
                pull.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return True

    async def _pull(self, image: str, pull: _Pull) -> None:
        try:
            await self._slow(lambda api: _pull(api, image, pull, self._silence_s))
        except docker.errors.APIError as error:
            raise _failed(pull.image, _why(error), pull.login) from error
        finally:
            if self._pulls.get(image) is pull:
                del self._pulls[image]


def _policy(spec: RunSpec) -> PullPolicy:
    return (spec.task.container or ContainerSpec()).pull_policy


def _not_here(image: str) -> StartError:
    return StartError(f"image {image} is not on this node, and pull_policy is never", permanent=True)


def _failed(image: str, text: str, login: Login | None) -> StartError:
    """What a registry, or the way there, said: in the user's words. A full disk alone may soon be another matter."""
    if _is(text, _UNKNOWN):
        return StartError(f"image {image} not found: {text}", permanent=True)
    if _is(text, _REFUSED):
        way = "look at what its 'auth' names" if login else "give the task 'auth', or log this node in (docker login)"
        return StartError(f"image {image} may not be pulled: {text}; {way}", permanent=True)
    if "no such host" in text.lower():  # of a name that resolvers do know is not there: mostly a mistake in the job
        return StartError(f"image {image} not found: no such registry: {text}", permanent=True)
    if _is(text, _AWAY):
        return AwayError(f"image {image} cannot be had: its registry does not answer: {text}", permanent=True)
    if "no space left on device" in text.lower():
        return StartError(f"the disk of this node's Docker engine is full: {text}")
    return StartError(f"image {image} cannot be pulled: {text}", permanent=True)


def _is(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text.lower() for word in words)


# ---------------------------------------------------------------------------- blocking, in threads


def _inspect(api: docker.APIClient, image: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = api.inspect_image(image)  # type: ignore[no-untyped-call]
    except docker.errors.NotFound:
        return None
    return found


def _digest_of(found: dict[str, Any], image: str) -> str:
    """The registry's digest of an image that is here; "" where it was never at a registry under this name."""
    name = split(image)[0]
    for one in found.get("RepoDigests") or ():
        known, _, digest = str(one).partition("@")
        if split(known)[0] == name:
            return digest
    return ""


def _name(api: docker.APIClient, image: str, reference: str) -> None:
    """An image that came by its digest gets the name that it was asked for, which nothing here has."""
    tag = image.rpartition(":")[2] if repository(image) != image else "latest"
    api.tag(reference, repository(image), tag)


def _ask_registry(api: docker.APIClient, image: str, login: Login | None) -> str:
    url = f"{api.base_url}/v{api.api_version}/distribution/{image}/json"
    response = api.get(url, headers=_headers(api, image, login), timeout=ASK_S)
    _check(response)
    return str(response.json()["Descriptor"]["digest"])


def _headers(api: docker.APIClient, image: str, login: Login | None) -> dict[str, str]:
    registry, _ = docker.auth.resolve_repository_name(repository(image))
    if login is not None:
        asked = {"username": login.username, "password": login.password, "serveraddress": login.server or registry}
        header = docker.auth.encode_header(asked)
    else:
        try:
            api.reload_config()
            header = docker.auth.get_config_header(api, registry) or b""
        except docker.errors.DockerException as error:
            raise StartError(f"this node's credentials for {registry} cannot be had: {error}") from error
    return {"X-Registry-Auth": header.decode()} if header else {}


def _check(response: Any) -> None:
    try:
        response.raise_for_status()
    except requests.exceptions.HTTPError as error:
        raise docker.errors.create_api_error_from_http_exception(error) from error


def _pull(api: docker.APIClient, image: str, pull: _Pull, silence_s: float) -> None:
    name = image if "@" in image or repository(image) != image else f"{image}:latest"
    parameters = {"fromImage": name}
    headers = _headers(api, image, pull.login)
    url = f"{api.base_url}/v{api.api_version}/images/create"
    progress = _Progress(pull.image)
    told_s = 0.0
    try:
        response = api.post(url, params=parameters, headers=headers, stream=True, timeout=(ASK_S, silence_s))
        _check(response)
        lines = _lines(response)
        # For closing alone: iterated over, it would take a silence for the end.
        pull.stream = docker.types.daemon.CancellableStream(lines, response)
        for line in lines:
            if "error" in line:
                raise _failed(pull.image, str(line["error"]), pull.login)
            progress.take(line)
            if time.monotonic() - told_s >= REPORT_S and progress.total:
                told_s = time.monotonic()
                pull.tell(progress.text())
    except requests.exceptions.RequestException as error:
        if pull.stopped or "timed out" not in str(error).lower():
            raise
        raise StartError(
            f"the pull of image {pull.image} stalled: nothing came for {silence_s:g} s ({progress.text()})"
        ) from error
    if pull.stopped:
        raise StartError(f"the pull of image {pull.image} was given up: nobody waits for it any more")


def _lines(response: Any) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines(chunk_size=512):
        if line:
            yield json.loads(line)


class _Progress:
    """Bytes of the layers that are being fetched, as the engine tells them line by line."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._layers: dict[str, tuple[int, int]] = {}

    def take(self, line: dict[str, Any]) -> None:
        layer, status = str(line.get("id", "")), str(line.get("status", ""))
        detail = line.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self._layers[layer] = (int(detail.get("current", 0)), int(detail["total"]))
        elif status in ("Download complete", "Pull complete") and layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)

    @property
    def total(self) -> int:
        return sum(total for _, total in self._layers.values())

    def text(self) -> str:
        """``pulling nginx:1.27: 34 of 120 MiB``."""
        done = sum(done for done, _ in self._layers.values())
        return f"pulling {self._image}: {done / MIB:.0f} of {self.total / MIB:.0f} MiB"


def _why(error: docker.errors.APIError) -> str:
    return str(error.explanation or error).strip()


def named(listed: list[dict[str, Any]]) -> tuple[str, ...]:
    """The largest images of the engine that have a name, at most ``IMAGES_MAX`` names."""
    names: list[str] = []
    for image in sorted(listed, key=lambda image: (-int(image.get("Size") or 0), str(image.get("Id")))):
        parts = [str(one).partition("@") for one in image.get("RepoDigests") or ()]
        digests = {name: digest for name, _, digest in parts}
        tags = [str(tag) for tag in image.get("RepoTags") or () if tag and "<none>" not in tag]
        for tag in sorted(tags):
            name = written(tag, digests.get(tag.rpartition(":")[0], ""))
            if len(name) <= IMAGE_LENGTH_MAX:
                names.append(name)
    return tuple(sorted(dict.fromkeys(names[:IMAGES_MAX])))

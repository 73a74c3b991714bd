"""The Docker engine as an operator sees it: look, listen, kill, clean up, make an image.

Owns: the few calls of the engine's HTTP API that drills, ``doctor``, the demo and clean-up need, independent of the
agent's driver on purpose: a drill must not learn what happened from the one it judges. The rule: nothing here touches
a container or image that was not named to it.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from orchestrator.contract.errors import RaftsmanError

API = "/v1.41"
DEFAULT_HOST = "unix:///var/run/docker.sock"


class EngineError(RaftsmanError):
    """The engine does not answer or refuses."""

    reason = "ENGINE"


@dataclass(frozen=True, slots=True)
class Container:
    id: str
    name: str
    labels: Mapping[str, str]
    running: bool
    mounts: tuple[str, ...] = ()  # the host's paths that are mounted


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """``action``: create, start, die, kill, destroy, ...; ``time_ns``: the engine's wall clock."""

    id: str
    action: str
    labels: Mapping[str, str]
    time_ns: int


class Engine:
    """One engine, by ``DOCKER_HOST`` or its usual socket. Every call may raise ``EngineError``."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        scheme, _, rest = self.host.partition("://")
        # Neither speaks TLS; without `verify` httpx would read every certificate of the machine first.
        if scheme == "unix":
            transport, base = httpx.AsyncHTTPTransport(uds=rest, verify=False), "http://engine"
        else:
            transport, base = httpx.AsyncHTTPTransport(verify=False), f"http://{rest}"
        self._http = httpx.AsyncClient(transport=transport, base_url=base, timeout=30.0, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def version(self) -> str:
        """The engine's version."""
        return str((await self._call("GET", "/version"))["Version"])

    async def info(self) -> dict[str, Any]:
        """What the engine says of itself, as ``docker info`` shows it."""
        found = await self._call("GET", "/info")
        return found if isinstance(found, dict) else {}

    async def has_image(self, image: str) -> bool:
        try:
            await self._call("GET", f"/images/{image}/json")
        except EngineError as error:
            if error.metadata.get("status") == "404":
                return False
            raise
        return True

    async def pull(self, image: str, timeout_s: float) -> None:
        name, colon, tag = image.rpartition(":")
        if not colon or "/" in tag:
            name, tag = image, "latest"
        text = await self._text(
            "POST", "/images/create", params={"fromImage": name, "tag": tag}, timeout=httpx.Timeout(timeout_s)
        )
        _raise_for_stream(text, f"pull of {image}")

    async def import_image(self, tar: bytes, image: str, changes: tuple[str, ...] = ()) -> None:
        """An image from the bytes of a root file system."""
        name, _, tag = image.partition(":")
        params: dict[str, Any] = {"fromSrc": "-", "repo": name, "tag": tag or "latest", "changes": list(changes)}
        text = await self._text(
            "POST", "/images/create", params=params, content=tar, headers={"content-type": "application/x-tar"}
        )
        _raise_for_stream(text, f"import of {image}")

    async def build_image(self, base: str, files: Mapping[str, bytes], image: str) -> None:
        """``base`` with ``files`` (path from the root: content) added, under the name ``image``."""
        buffer = io.BytesIO()
        # The marker keeps the folder from being absent where no files are given.
        rooted = {f"root/{path}": content for path, content in {"etc/raftsman-example": b"", **files}.items()}
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for path, content in {"Dockerfile": f"FROM {base}\nCOPY root /\n".encode(), **rooted}.items():
                info = tarfile.TarInfo(path)
                info.size, info.mode = len(content), 0o644
                tar.addfile(info, io.BytesIO(content))
        text = await self._text(
            "POST",
            "/build",
            params={"t": image, "rm": "1"},
            content=buffer.getvalue(),
            headers={"content-type": "application/x-tar"},
            timeout=httpx.Timeout(120.0),
        )
        _raise_for_stream(text, f"build of {image}")

    async def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """Every container, running or not, that carries all ``labels``."""
        rows = await self._call("GET", "/containers/json", params={"all": "1", "filters": _filters(labels)})
        return [
            Container(
                id=row["Id"],
                name=row["Names"][0].lstrip("/") if row["Names"] else "",
                labels=row["Labels"] or {},
                running=row["State"] in ("running", "paused", "restarting"),
                mounts=tuple(mount.get("Source", "") for mount in row.get("Mounts") or ()),
            )
            for row in rows
        ]

    async def read_file(self, container: str, path: str) -> bytes:
        """One file out of a container, its volumes included."""
        params = {"path": path}
        try:
            response = await self._http.get(f"{API}/containers/{container}/archive", params=params)
        except (httpx.HTTPError, OSError) as error:
            raise EngineError(f"no Docker engine answers at {self.host}: {error!r}") from None
        if response.status_code != 200:
            raise EngineError(f"{path} in container {container[:12]}: {response.text.strip()}")
        with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
            member = tar.extractfile(tar.getmembers()[0])
            return member.read() if member is not None else b""

    async def kill(self, container: str) -> None:
        """SIGKILL; a container that is gone or ended is fine."""
        await self._call("POST", f"/containers/{container}/kill", fine=(404, 409))

    async def start(self, container: str) -> None:
        await self._call("POST", f"/containers/{container}/start", fine=(304,))

    async def stop(self, container: str) -> None:
        """SIGTERM, and SIGKILL after a second; a container that is gone or ended is fine."""
        await self._call("POST", f"/containers/{container}/stop", params={"t": "1"}, fine=(304, 404))

    async def restart(self, container: str) -> None:
        await self._call("POST", f"/containers/{container}/restart", params={"t": "0"})

    async def pause(self, container: str) -> None:
        await self._call("POST", f"/containers/{container}/pause", fine=(409,))

    async def unpause(self, container: str) -> None:
        await self._call("POST", f"/containers/{container}/unpause", fine=(404, 409))

    async def remove(self, container: str) -> None:
        """Kill and forget; a container that is gone is fine."""
        await self._call("DELETE", f"/containers/{container}", params={"force": "1", "v": "1"}, fine=(404, 409))

    async def events(
        self, labels: Mapping[str, str], *, since_s: float, until_s: float | None = None
    ) -> AsyncIterator[ContainerEvent]:
        """Container events from ``since_s`` (unix seconds) on; ends at ``until_s`` or never."""
        params = {"since": f"{since_s:.9f}", "filters": _filters(labels, type="container")}
        if until_s is not None:
            params["until"] = f"{until_s:.9f}"
        timeout = httpx.Timeout(30.0, read=None)
        try:
            async with self._http.stream("GET", API + "/events", params=params, timeout=timeout) as response:
                async for line in response.aiter_lines():
                    if line:
                        event = json.loads(line)
                        actor = event["Actor"]
                        yield ContainerEvent(actor["ID"], event["Action"], actor["Attributes"], event["timeNano"])
        except (httpx.HTTPError, OSError) as error:
            raise EngineError(f"the engine at {self.host} stopped sending events: {error!r}") from None

    async def _call(self, method: str, path: str, *, fine: tuple[int, ...] = (), **options: Any) -> Any:
        text = await self._text(method, path, fine=fine, **options)
        return json.loads(text) if text else None

    async def _text(self, method: str, path: str, *, fine: tuple[int, ...] = (), **options: Any) -> str:
        try:
            response = await self._http.request(method, API + path, **options)
        except (httpx.HTTPError, OSError) as error:
            raise EngineError(f"no Docker engine answers at {self.host}: {error!r}") from None
        if response.status_code in fine:
            return ""
        if response.status_code >= 400:
            try:
                message = response.json()["message"]
            except (ValueError, KeyError):
                message = response.text
            raise EngineError(f"{method} {path}: {message}", status=str(response.status_code))
        return response.text


def _filters(labels: Mapping[str, str], **more: str) -> str:
    wanted = [f"{key}={value}" if value else key for key, value in labels.items()]
    return json.dumps({"label": wanted, **{key: [value] for key, value in more.items()}})


def _raise_for_stream(text: str, what: str) -> None:
    """The engine answers 200 and tells of failures in the body."""
    for line in text.splitlines():
        message = json.loads(line)
        if "error" in message:
            raise EngineError(f"{what} failed: {message['error']}")

"""A tiny image registry on loopback, for tests: real pulls without the internet.

It speaks as much of the registry's HTTP interface (version 2) as a Docker engine asks for when it pulls: manifests by
tag or digest, blobs, basic authentication. Tests move tags, hold blobs back and count requests.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Registry:
    """``held``: while it is cleared, blobs of layers stop after ``hold_after`` bytes; ``login``: (name, password) or
    None; ``pulls``: paths of manifests that were sent, ``blobs``: digests of blobs that were asked for."""

    def __init__(self) -> None:
        self.login: tuple[str, str] | None = None
        self.released = threading.Event()
        self.released.set()
        self.hold_after = 1000
        self.manifests: list[str] = []
        self.blobs: list[str] = []
        self.seen_logins: list[str] = []
        self._content: dict[str, tuple[str, bytes]] = {}  # digest -> (media type, bytes)
        self._tags: dict[tuple[str, str], str] = {}
        registry = self

        class Handler(_Handler):
            served = registry

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def push(self, name: str, tag: str, *, marker: str, padding: int = 0) -> str:
        """An image from this machine's test image with ``marker`` in its environment (``MARKER``) and in a layer of its
        own, with ``padding`` bytes that do not compress; returns its digest."""
        config, layers = _test_image()
        body = hashlib.shake_256(marker.encode()).digest(padding)
        layers = [*layers, _tar({"marker": marker.encode(), "padding": body})]
        made = dict(config)
        made["rootfs"] = {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]}
        made["history"] = [{"created_by": "test"} for _ in layers]
        made["config"] = dict(config["config"]) | {"Env": [*config["config"]["Env"], f"MARKER={marker}"]}
        packed = [gzip.compress(layer, 1, mtime=0) for layer in layers]
        config_bytes = json.dumps(made).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": len(config_bytes), "digest": _digest(config_bytes)},
            "layers": [{"mediaType": LAYER, "size": len(one), "digest": _digest(one)} for one in packed],
        }
        data = json.dumps(manifest).encode()
        for kind, content in ((CONFIG, config_bytes), (MANIFEST, data), *((LAYER, one) for one in packed)):
            self._content[_digest(content)] = (kind, content)
        self._tags[(name, tag)] = _digest(data)
        return _digest(data)

    def find(self, name: str, reference: str) -> tuple[str, str, bytes] | None:
        digest = self._tags.get((name, reference), reference)
        found = self._content.get(digest)
        return None if found is None else (digest, *found)


_cache: list[tuple[dict[str, Any], list[bytes]]] = []


def _test_image() -> tuple[dict[str, Any], list[bytes]]:
    """Config and layers of the image that tests use anyway."""
    if not _cache:
        saved = subprocess.run(["docker", "save", "raftsman-test:busybox"], capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(saved)) as tar:

            def read(name: str) -> bytes:
                member = tar.extractfile(name)
                assert member is not None
                return member.read()

            (entry,) = json.loads(read("manifest.json"))
            _cache.append((json.loads(read(entry["Config"])), [read(name) for name in entry["Layers"]]))
    return _cache[0]


def _tar(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    served: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        registry = self.served
        if registry.login is not None:
            said = self.headers.get("Authorization", "")
            if said:
                registry.seen_logins.append(base64.b64decode(said.removeprefix("Basic ")).decode())
            if not said or registry.seen_logins[-1] != ":".join(registry.login):
                self._send(401, "application/json", b'{"errors":[{"code":"UNAUTHORIZED"}]}', body=body, ask=True)
                return
        if self.path in ("/v2/", "/v2"):
            self._send(200, "application/json", b"{}", body=body)
            return
        parts = self.path.removeprefix("/v2/").split("/")
        name, kind, reference = "/".join(parts[:-2]), parts[-2], parts[-1]
        found = registry.find(name, reference)
        if found is None:
            code = b"MANIFEST_UNKNOWN" if kind == "manifests" else b"BLOB_UNKNOWN"
            self._send(
                404, "application/json", b'{"errors":[{"code":"%s","message":"manifest unknown"}]}' % code, body=body
            )
            return
        digest, media, data = found
        if body:
            (registry.manifests if kind == "manifests" else registry.blobs).append(self.path)
        self._send(200, media, data, body=body, digest=digest, slow=media == LAYER)

    def _send(
        self,
        status: int,
        media: str,
        data: bytes,
        *,
        body: bool,
        digest: str = "",
        ask: bool = False,
        slow: bool = False,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        if ask:
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
        self.end_headers()
        if not body:
            return
        try:
            if slow and not self.served.released.is_set():
                self.wfile.write(data[: self.served.hold_after])
                self.wfile.flush()
                data = data[self.served.hold_after :]
                self.served.released.wait(60)
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

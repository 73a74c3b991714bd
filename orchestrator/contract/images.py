"""How agents name the images that they have, and whether a job's image is among them.

Owns: the written form, ``name:tag@digest`` with the first 12 digits of the digest, and matching. It is a hint for
placing and no promise, so it is short: nodes tell it through the replicated log. The rule: the registry and the folder
that Docker leaves out (``docker.io/library``) are left out, a missing tag is ``latest``.
"""

from __future__ import annotations

from collections.abc import Iterable

DIGEST_DIGITS = 12
IMAGES_MAX = 64
"""Of one node; the largest ones, which take longest to fetch."""
IMAGE_LENGTH_MAX = 255


def split(image: str) -> tuple[str, str, str]:
    """Name, tag and the short digest; the tag is "" where only a digest is given."""
    name, _, digest = image.partition("@")
    digest = digest.removeprefix("sha256:")[:DIGEST_DIGITS]
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon of a registry's port
        head, tag = name, "" if digest else "latest"
    for prefix in ("docker.io/library/", "docker.io/", "index.docker.io/library/", "index.docker.io/"):
        if head.startswith(prefix):
            head = head.removeprefix(prefix)
            break
    return head, tag, digest


def written(name: str, digest: str = "") -> str:
    """One image of a node: ``name`` with its tag, ``digest`` as ``sha256:...`` or ""."""
    head, tag, _ = split(name)
    short = digest.partition(":")[2][:DIGEST_DIGITS] if ":" in digest else digest[:DIGEST_DIGITS]
    return f"{head}:{tag or 'latest'}" + (f"@{short}" if short else "")


class Images:
    """The images of one node, ready to be asked."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._tags: set[tuple[str, str]] = set()
        self._digests: set[tuple[str, str]] = set()
        for image in listed:
            name, tag, digest = split(image)
            if tag:
                self._tags.add((name, tag))
            if digest:
                self._digests.add((name, digest))

    def has(self, image: str) -> bool:
        """Whether a job's image is here: by its digest where it names one, else by its tag."""
        name, tag, digest = split(image)
        return (name, digest) in self._digests if digest else (name, tag) in self._tags

"""Which images and datasets are on which node already, as its agent told.

Owns: counting them. The rule: a hint; a node that turns out not to have them fetches them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.contract.images import Images
from orchestrator.scheduling.wish import BoolArray, Int64Array
from orchestrator.state.model import Node


class Holdings:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._images: list[Images] | None = None
        self._with_image: dict[str, BoolArray] = {}
        self._with_dataset: dict[str, BoolArray] = {}

    def present(self, images: Sequence[str], datasets: Sequence[str]) -> Int64Array:
        """int64 per node: how many of these it has."""
        count = np.zeros(len(self._nodes), dtype=np.int64)
        for image in images:
            count += self._image(image)
        for dataset in datasets:
            count += self._dataset(dataset)
        return count

    def _image(self, image: str) -> BoolArray:
        known = self._with_image.get(image)
        if known is None:
            if self._images is None:
                self._images = [Images(node.spec.images) for node in self._nodes]
            known = np.array([images.has(image) for images in self._images], dtype=np.bool_)
            self._with_image[image] = known
        return known

    def _dataset(self, dataset: str) -> BoolArray:
        known = self._with_dataset.get(dataset)
        if known is None:
            known = np.array([dataset in node.spec.datasets for node in self._nodes], dtype=np.bool_)
            self._with_dataset[dataset] = known
        return known

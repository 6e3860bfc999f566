"""The published class splits, as package data."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def published(name: str) -> dict[str, Any]:
    """The split called ``name``: ``train``, ``validation`` and ``test`` to the classes of each.

    ``fc100`` holds CIFAR-100 superclasses (Oreshkin et al. 2018), ``cifar_fs`` CIFAR-100 classes (Bertinetto et
    al. 2019), ``miniimagenet`` WordNet ids (Ravi and Larochelle 2017), and ``omniglot_vinyals`` the first and last
    character of each ``part/alphabet`` (Vinyals et al. 2016, in the selection of torchmeta). ``cifar100`` is no split:
    it has the classes of each superclass (Krizhevsky 2009), and of each class SHA-256 of its 600 pictures in the order
    of their bytes ``[600, 3, 32, 32]``.
    """
    loaded: dict[str, Any] = json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text("utf-8"))
    return loaded

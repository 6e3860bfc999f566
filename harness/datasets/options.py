"""What a person may ask of any set of images, and of data of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

#: a path as it is from everywhere, so that what is recorded can be run again
AbsolutePath = Annotated[str, AfterValidator(lambda path: str(Path(path).expanduser().resolve()) if path else path)]


class HeldOut(BaseModel):
    """Which classes, or tasks, are held out where the data do not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    validation: float = Field(0.2, gt=0, lt=0.5, description="share that validates, where the data have no such split")
    test: float = Field(0.2, gt=0, lt=0.5, description="share that tests, where the data have no such split")
    split_seed: int = Field(0, ge=0, description="seed of the split, where the data have none")

    def split_of(self, names: Iterable[str], made: Iterable[str] = ("validation", "test")) -> dict[str, list[str]]:
        """``names`` in the splits ``made`` and the rest in train, each by name; by hashes of their own."""
        left = sorted(names, key=lambda name: hashlib.sha256(f"{self.split_seed} {name}".encode()).digest())
        total, found = len(left), {}
        for split in made:
            number = round(getattr(self, split) * total)
            found[split], left = sorted(left[:number]), left[number:]
        return {"train": sorted(left), **found}


class ImageOptions(BaseModel):
    """What may be left out of any set of images."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    drop_duplicates: bool = Field(
        False,
        description="leave out pictures that occur again: of copies in one class one stays, of copies in two splits "
        "the later split's, of copies under two labels none",
    )

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the option where it is off, as in the configurations of runs made before there was one."""
        return {name: value for name, value in handler(self).items() if name != "drop_duplicates" or value}

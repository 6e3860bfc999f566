"""What a person may ask of any set of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

if TYPE_CHECKING:
    pass


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

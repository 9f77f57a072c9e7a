"""Types that several files share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import FailFast, Field

Count = Annotated[int, Field(ge=0, lt=2**63)]
Names = Annotated[list[str], FailFast()]
Number = Annotated[float, Field(allow_inf_nan=False)] | None  # null: undefined, or not finite
Json = dict[str, Any]

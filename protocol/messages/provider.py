"""`provider.*`: operator settings of the sources' providers."""

from __future__ import annotations

from typing import Literal

from protocol.messages.base import JsonMap, Method, NoParams, Params, SourceName, WireModel

__all__ = ["METHODS", "ProviderListResult", "ProviderReplaceParams", "ProviderReplaceResult", "ProviderState"]


class ProviderState(WireModel):
    """A provider, and which settings are in force (stored win over the environment), never what they are."""

    source_id: SourceName
    name: str
    settings: Literal["none", "environment", "stored"] | str
    version: int = 0
    settings_schema: JsonMap | None = None


class ProviderListResult(WireModel):
    """Every registered provider."""

    providers: list[ProviderState]


class ProviderReplaceParams(Params):
    """New settings for a provider, whole."""

    source_id: SourceName
    settings: JsonMap


class ProviderReplaceResult(WireModel):
    """On this replica: how many users' sources run with the new settings, how many had to keep the old."""

    refreshed: int
    kept: int


METHODS = (
    Method(
        "provider.list",
        NoParams,
        ProviderListResult,
        "All providers, and which settings are in force.",
        scope="admin",
    ),
    Method(
        "provider.replace",
        ProviderReplaceParams,
        ProviderReplaceResult,
        "Stores a provider's settings and swaps its sources in every live session; other replicas follow.",
        scope="admin",
        writes=True,
    ),
)

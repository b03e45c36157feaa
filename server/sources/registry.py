"""All providers of a process, in one fixed order: the built-in ones, then those of installed packages.

The order is part of the feed: where nothing else decides, sources come in the order in which they are
registered here. So it must not depend on which package was found first on a disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import cast

import structlog
from pydantic import BaseModel, ValidationError

from protocol.ids import SourceId
from server.engine.tasks import is_cancellation, is_fatal
from server.sources.provider import AnyProvider, FeedProvider
from storage.source_configs import DefaultRow

__all__ = ["ENTRY_POINT_GROUP", "BrokenPlugin", "ProviderRegistry", "check_provider", "load_plugins"]

ENTRY_POINT_GROUP = "freya_push.sources"

# Reverse domain. 100 characters: an id is part of every item's id, and those are sent over and over.
_SOURCE_ID = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+")
_SOURCE_ID_MAX = 100
_RESERVED = "freya."

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """An installed package whose sources cannot be offered."""

    entry_point: str
    distribution: str | None
    problem: str


class ProviderRegistry:
    """Providers by id, in their fixed order. Immutable."""

    __slots__ = ("_by_id", "broken")

    def __init__(self, providers: Iterable[AnyProvider], broken: Sequence[BrokenPlugin] = ()) -> None:
        """Raises ValueError if two providers share an id or one breaks the provider's contract."""
        self._by_id: dict[SourceId, AnyProvider] = {}
        self.broken = tuple(broken)
        for provider in providers:
            check_provider(provider)
            if provider.source_id in self._by_id:
                raise ValueError(f"two providers for {provider.source_id}")
            self._by_id[provider.source_id] = provider

    @classmethod
    def with_plugins(
        cls, builtin: Sequence[AnyProvider], points: Iterable[EntryPoint] | None = None
    ) -> ProviderRegistry:
        """The built-in providers, then those of installed packages, of which broken ones are skipped."""
        taken = {provider.source_id for provider in builtin}
        plugins, broken = load_plugins(points, taken)
        return cls([*builtin, *plugins], broken)

    def get(self, source_id: str) -> AnyProvider | None:
        """The provider of that id, or None."""
        return self._by_id.get(SourceId(source_id))

    def __iter__(self) -> Iterator[AnyProvider]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, source_id: object) -> bool:
        return source_id in self._by_id

    @property
    def order(self) -> tuple[SourceId, ...]:
        """Every id, in the order that breaks ties in the feed."""
        return tuple(self._by_id)

    def defaults(self, wanted: Sequence[str] | None = None) -> tuple[DefaultRow, ...]:
        """The rows of a new user: those named, or those whose providers say so.

        Raises ValueError for a name that no provider has, and for a source that cannot run as it comes: a
        mistake of an operator, better found at the start than by the absence of a source.
        """
        if wanted is None:
            chosen = [p for p in self if p.default_row]
        else:
            unknown = sorted(set(wanted) - set(self._by_id))
            if unknown:
                raise ValueError(f"no source is called {', '.join(unknown)}")
            chosen = [self._by_id[SourceId(name)] for name in dict.fromkeys(wanted)]
            for provider in chosen:
                _check_default(provider)
        return tuple(DefaultRow(p.source_id, True, p.default_config) for p in chosen)

    async def aclose(self) -> None:
        """Closes every provider; one that raises does not keep the others open."""
        for provider in self:
            try:
                await provider.aclose()
            except BaseException as raised:
                if is_cancellation(raised) or is_fatal(raised):
                    raise
                # The top of foreign code at shutdown: nothing above could do more than log it too.
                _log.exception("provider_close_failed", source=provider.source_id)


def load_plugins(
    points: Iterable[EntryPoint] | None = None, taken: Iterable[str] = ()
) -> tuple[list[AnyProvider], list[BrokenPlugin]]:
    """Loads the packages' providers. An entry point names a provider class (made without arguments), a
    provider, or a function that returns one.

    Never raises for a package's fault: what is wrong comes back beside the good ones, and is logged.
    """
    found = entry_points(group=ENTRY_POINT_GROUP) if points is None else points
    seen = set(taken)
    providers: list[AnyProvider] = []
    broken: list[BrokenPlugin] = []
    for point in sorted(found, key=lambda p: (_distribution(p) or "", p.name, p.value)):
        try:
            provider = _load(point)
            if provider.source_id.startswith(_RESERVED):
                raise ValueError(f"{provider.source_id}: ids under {_RESERVED} are the server's own")
            if provider.source_id in seen:
                raise ValueError(f"{provider.source_id}: another provider has this id")
        except (Exception, SystemExit) as problem:
            # Foreign code at import time: whatever it does must not keep the server from starting.
            text = f"{type(problem).__name__}: {problem}"
            broken.append(BrokenPlugin(point.name, _distribution(point), text))
            _log.error("source_plugin_skipped", plugin=point.name, package=_distribution(point), problem=text)
        else:
            seen.add(provider.source_id)
            providers.append(provider)
    return providers, broken


def check_provider(provider: AnyProvider) -> None:
    """Raises ValueError or TypeError where a provider lacks what everything else relies on."""
    source_id = cast("object", provider.source_id)
    if (
        not isinstance(source_id, str)
        or len(source_id) > _SOURCE_ID_MAX
        or not _SOURCE_ID.fullmatch(source_id)
    ):
        raise ValueError(f"{source_id!r} is not a source id: a reverse domain such as com.example.bikes")
    if not isinstance(cast("object", provider.name), str) or not provider.name.strip():
        raise ValueError(f"{source_id}: a provider needs a name")
    _check_schema(source_id, "config_schema", provider.config_schema)
    if provider.credentials_schema is not None:
        _check_schema(source_id, "credentials_schema", provider.credentials_schema)
    if provider.settings_schema is not None:
        _check_schema(source_id, "settings_schema", provider.settings_schema)
    if provider.default_row:
        provider.config_schema.model_validate(dict(provider.default_config))


def _check_default(provider: AnyProvider) -> None:
    try:
        provider.config_schema.model_validate(dict(provider.default_config))
    except ValidationError:
        raise ValueError(f"{provider.source_id} must be set up by each user") from None


def _check_schema(source_id: str, what: str, schema: object) -> None:
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        raise TypeError(f"{source_id}: {what} must be a pydantic model")
    if schema.model_config.get("extra") != "forbid":
        raise ValueError(f"{source_id}: {what} must refuse unknown keys (extra='forbid')")
    schema.model_json_schema()


def _load(point: EntryPoint) -> AnyProvider:
    loaded: object = point.load()
    if not isinstance(loaded, FeedProvider) and callable(loaded):
        loaded = loaded()
    if not isinstance(loaded, FeedProvider):
        raise TypeError(f"{point.value} gives no FeedProvider but a {type(loaded).__name__}")
    provider = cast("AnyProvider", loaded)
    check_provider(provider)
    return provider


def _distribution(point: EntryPoint) -> str | None:
    return point.dist.name if point.dist is not None else None

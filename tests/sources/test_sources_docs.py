"""`docs/sources.md` knows every source, all that can be set about it, and an example that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from server.engine.clock import SystemClock
from server.engine.context import Context
from server.sources import item_types
from server.sources.builtin import builtin_providers
from server.sources.provider import AnyProvider
from server.sources.registry import ENTRY_POINT_GROUP, check_provider
from server.sources.services import Services, SourceOptions
from server.upstream.client import ClientLimits
from server.upstream.upstreams import UpstreamOptions, Upstreams
from tests.sources.conftest import ALICE, NoWrites
from tests.support.web import json_reply, open_web

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sources.md").read_text()
PROVIDERS = builtin_providers(SourceOptions(synthetic=True))


def section(source_id: str) -> str:
    found = re.search(rf"^### {re.escape(source_id)}\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/sources.md has no section on {source_id}"
    return found[1]


def members(schema: type[BaseModel] | None) -> list[str]:
    """What can be set, as it is called on the wire."""
    return [] if schema is None else list(schema.model_json_schema(by_alias=True).get("properties", {}))


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.source_id)
def test_every_source_is_described_with_all_that_can_be_set(provider: AnyProvider) -> None:
    assert f"| `{provider.source_id}` |" in PAGE
    text = section(provider.source_id)
    for schema in (provider.config_schema, provider.credentials_schema, provider.settings_schema):
        for name in members(schema):
            assert f"`{name}`" in text, f"{provider.source_id}: {name}"


def test_every_type_of_item_is_named() -> None:
    for name in item_types.__all__:
        assert f"`{getattr(item_types, name)}`" in PAGE


def test_the_sources_of_the_start_are_marked() -> None:
    for provider in PROVIDERS:
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{provider.source_id}` |")]
        assert ("| yes |" in row) == provider.default_row


async def test_the_example_on_the_page_is_a_source_that_runs() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    module: dict[str, object] = {"__name__": "bikes"}
    async with open_web(lambda asked: json_reply('{"free": 7}')) as web:
        exec(compile(code.replace("https://bikes.example", web.url), "docs/sources.md", "exec"), module)
        make = module["BikesProvider"]
        assert isinstance(make, type)
        provider: AnyProvider = make()
        check_provider(provider)
        clock = SystemClock()
        options = UpstreamOptions(client=ClientLimits(attempts=1))
        async with Upstreams.open(clock, options) as upstreams:
            services = Services(clock, NoWrites(), upstreams=upstreams)
            config = provider.config_schema.model_validate({"station": "harbour"})
            source = await provider.source_for_user(ALICE, config, None, services)
            items = await source.fetch_items(Context.of([], clock.now()))
        assert isinstance(items, list)
        assert [item.data for item in items] == [{"station": "harbour", "free": 7}]
        assert web.paths() == ["/stations/harbour"]


def test_the_entry_point_group_is_the_one_that_is_looked_in() -> None:
    assert f'[project.entry-points."{ENTRY_POINT_GROUP}"]' in PAGE

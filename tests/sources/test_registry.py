from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
from pydantic import BaseModel, Field

from protocol.frozen import freeze
from protocol.ids import SourceId, UserId
from server.engine.source import FeedSource
from server.sources.builtin import builtin_providers
from server.sources.provider import AnyProvider, ConfigModel, FeedProvider, NoConfig
from server.sources.registry import ENTRY_POINT_GROUP, ProviderRegistry
from server.sources.services import Services, SourceOptions

DEFAULTS = ["freya.user", "freya.location", "freya.clock", "freya.inbox", "freya.reminders"]


class BikesConfig(ConfigModel):
    station: str = Field(default="Main", title="Station", description="Where you park.")


class Bikes(FeedProvider[BikesConfig]):
    source_id = SourceId("com.example.bikes")
    name = "Bikes"
    config_schema = BikesConfig

    async def source_for_user(
        self, user: UserId, config: BikesConfig, credentials: BaseModel | None, services: Services
    ) -> FeedSource:
        raise NotImplementedError


class Trams(Bikes):
    source_id = SourceId("com.example.trams")


class Impostor(Bikes):
    source_id = SourceId("freya.trams")


class Nameless(Bikes):
    name = "  "


class Lax(BaseModel):
    station: str = "Main"


class Careless(Bikes):
    config_schema = Lax


def a_trams() -> AnyProvider:
    return Trams()


def leaves() -> AnyProvider:
    raise SystemExit(1)


number = 5


def point(name: str, value: str | None = None) -> EntryPoint:
    return EntryPoint(name, value or f"{__name__}:{name}", ENTRY_POINT_GROUP)


def with_plugins(*points: EntryPoint) -> ProviderRegistry:
    return ProviderRegistry.with_plugins(builtin_providers(SourceOptions()), points)


def builtin_ids() -> list[str]:
    return [provider.source_id for provider in builtin_providers(SourceOptions())]


def test_a_source_that_each_user_must_set_up_is_not_given_to_everybody() -> None:
    assert [row.source_id for row in with_plugins().defaults(["freya.weather"])] == ["freya.weather"]
    for name in ("freya.calendar", "freya.news", "freya.music"):
        with pytest.raises(ValueError, match=f"{name} must be set up by each user"):
            with_plugins().defaults(["freya.user", name])


def test_the_rows_of_a_new_user_are_those_of_the_first_five_sources() -> None:
    rows = with_plugins().defaults()
    assert [row.source_id for row in rows] == DEFAULTS
    assert all(row.enabled and row.config == {} for row in rows)


def test_an_operator_chooses_other_rows() -> None:
    rows = with_plugins().defaults(["freya.clock", "freya.user", "freya.clock"])
    assert [row.source_id for row in rows] == ["freya.clock", "freya.user"]
    assert with_plugins().defaults([]) == ()


def test_a_default_row_that_does_not_exist_is_found_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"no source is called freya\.clok"):
        with_plugins().defaults(["freya.clok"])


def test_packages_come_behind_the_built_in_ones_in_an_order_of_their_own() -> None:
    there = [point("a_trams"), point("Bikes")]
    assert with_plugins(*there).order == with_plugins(*there[::-1]).order
    assert list(with_plugins(*there).order) == [*builtin_ids(), "com.example.bikes", "com.example.trams"]


@pytest.mark.parametrize("value", ["Trams", "a_trams"])
def test_a_package_offers_a_class_or_a_function(value: str) -> None:
    registry = with_plugins(point("trams", f"{__name__}:{value}"))
    assert "com.example.trams" in registry
    assert registry.broken == ()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("no_such_module_of_ours", "ModuleNotFoundError"),
        (f"{__name__}:nothing", "AttributeError"),
        (f"{__name__}:leaves", "SystemExit"),
        (f"{__name__}:number", "gives no FeedProvider but a int"),
        (f"{__name__}:BikesConfig", "gives no FeedProvider but a BikesConfig"),
        (f"{__name__}:FeedProvider", "TypeError"),
        (f"{__name__}:Impostor", "the server's own"),
        (f"{__name__}:Nameless", "needs a name"),
        (f"{__name__}:Careless", "must refuse unknown keys"),
    ],
)
def test_a_broken_package_is_reported_and_skipped(value: str, problem: str) -> None:
    registry = with_plugins(point("broken", value), point("Bikes"))
    assert list(registry.order) == [*builtin_ids(), "com.example.bikes"]
    [broken] = registry.broken
    assert broken.entry_point == "broken"
    assert problem in broken.problem


def test_of_two_packages_with_one_id_the_first_is_taken() -> None:
    registry = with_plugins(point("a", f"{__name__}:Trams"), point("b", f"{__name__}:Trams"))
    assert [broken.entry_point for broken in registry.broken] == ["b"]
    assert "com.example.trams" in registry


@pytest.mark.parametrize(
    "name", ["bikes", "Com.Example", "com.example.bikes/1", "com..bikes", "", "a." + "b" * 100]
)
def test_an_id_that_is_no_reverse_domain_is_refused(name: str) -> None:
    class Odd(Bikes):
        source_id = SourceId(name)

    with pytest.raises(ValueError, match="is not a source id"):
        ProviderRegistry([Odd()])


def test_two_providers_of_one_id_are_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="two providers"):
        ProviderRegistry([Bikes(), Bikes()])


def test_a_default_row_must_fit_the_providers_own_schema() -> None:
    class Eager(Bikes):
        default_row = True
        default_config = freeze({"stashun": "x"})

    with pytest.raises(ValueError, match="stashun"):
        ProviderRegistry([Eager()])


async def test_one_provider_that_will_not_close_does_not_keep_the_others_open() -> None:
    closed: list[str] = []

    class Stubborn(Bikes):
        async def aclose(self) -> None:
            raise RuntimeError("no")

    class Polite(Trams):
        async def aclose(self) -> None:
            closed.append(self.source_id)

    await ProviderRegistry([Stubborn(), Polite()]).aclose()
    assert closed == ["com.example.trams"]


@pytest.mark.parametrize(
    "provider", builtin_providers(SourceOptions()), ids=lambda provider: provider.source_id
)
def test_a_settings_screen_can_draw_every_built_in_config(provider: AnyProvider) -> None:
    assert provider.config_schema.model_json_schema(by_alias=True)["additionalProperties"] is False
    for name, field in provider.config_schema.model_fields.items():
        assert field.title, f"{name} has no title"
        assert field.description, f"{name} has no description"
        assert not field.is_required() or provider.default_row is False


def test_a_config_is_what_its_schema_says_and_nothing_else() -> None:
    assert NoConfig.model_validate({}) == NoConfig()
    with pytest.raises(ValueError, match="extra"):
        NoConfig.model_validate({"x": 1})

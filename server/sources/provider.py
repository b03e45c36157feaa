"""What makes a source for a user: the provider, and the models its forms are drawn from.

A provider is made once per process and knows no user. It says how it is configured (a pydantic model, from
which a settings screen draws a form), and builds a `FeedSource` for one user on demand. Whatever goes wrong
in here is that source's failure alone: a provider may raise, or hang, and costs nobody else anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from typing_extensions import TypeVar

from protocol.frozen import JsonObject, freeze
from protocol.ids import SourceId, UserId
from server.engine.source import FeedSource

if TYPE_CHECKING:
    from server.sources.services import Services

__all__ = ["AnyProvider", "ConfigModel", "FeedProvider", "NoConfig"]


class ConfigModel(BaseModel):
    """The base of config, credential and settings models: camelCase on the wire, unknown keys refused.

    Instances are immutable, since a running source and a stored row share one. Give every field a title, a
    description, a default where one makes sense, and bounds: that is all a settings screen has to go by.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        serialize_by_alias=True,
        # A form that sends NaN has a bug; JSON could not carry it back.
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


class NoConfig(ConfigModel):
    """The config of a source that has nothing to set."""


ConfigT = TypeVar("ConfigT", bound=BaseModel)
CredentialsT = TypeVar("CredentialsT", bound=BaseModel, default=BaseModel)
SettingsT = TypeVar("SettingsT", bound=BaseModel, default=BaseModel)


class FeedProvider(ABC, Generic[ConfigT, CredentialsT, SettingsT]):
    """Makes the sources of one kind. Subclasses set the attributes and write `source_for_user`."""

    source_id: SourceId
    """Reverse domain, such as `com.example.bikes`; `freya.` is kept for the built-in ones."""

    name: str
    """What people call it, in a settings screen."""

    config_schema: type[ConfigT]
    """A `ConfigModel`, or any pydantic model that refuses unknown keys."""

    credentials_schema: type[CredentialsT] | None = None
    """What a user must give so that the source may read for them; None where nothing is needed."""

    settings_schema: type[SettingsT] | None = None
    """What an operator sets for everybody by `provider.replace`; None where there is nothing."""

    credential_targets: frozenset[str] = frozenset()
    """Config members (their names on the wire) that say where credentials are sent. A change of one drops the
    stored credentials, so that nobody sends a password to a place its owner did not mean."""

    default_row: bool = False
    """Whether a new user has it from the start."""

    default_config: JsonObject = freeze({})
    """The config of that first row, as it would come over the wire."""

    builds_at_once: bool = False
    """Whether `source_for_user` never waits for anything. Then a source is there as soon as its row is."""

    @abstractmethod
    async def source_for_user(
        self, user: UserId, config: ConfigT, credentials: CredentialsT | None, services: Services
    ) -> FeedSource:
        """Builds this user's source. Its `id` must be `source_id`.

        May be called concurrently, and again for the same user while an older source still runs. May be
        cancelled at any await; it must not leave work behind. Raise a `SourceFailure` (`Unauthorized`,
        `ConfigProblem`, ...) to say what is wrong in words that are safe to show; any other exception is
        reported without its text.
        """

    async def validate_credentials(
        self, user: UserId, config: ConfigT, credentials: CredentialsT, services: Services
    ) -> None:
        """Tells at once whether credentials are good, before they are stored.

        Raises `Unauthorized` if they are not. A provider that cannot tell quickly leaves this as it is: the
        source then shows it, by its status.
        """

    def configure(self, settings: SettingsT | None) -> None:
        """Takes new operator settings for sources built from now on; None: back to what the process began
        with. Sources already built keep theirs until they are replaced."""

    async def aclose(self) -> None:
        """Lets go of what the provider holds for everybody. Called once, when the server stops."""


# A registry holds providers of every config model. `Any` is right here and nowhere else: whoever calls a
# provider hands it what its own `config_schema` made, which no type can say of a mixed collection.
AnyProvider: TypeAlias = FeedProvider[Any, Any, Any]

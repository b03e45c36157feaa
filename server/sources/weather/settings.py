"""What a user and an operator can set about the weather."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from server.sources.provider import ConfigModel
from server.sources.services import WeatherKitKey
from server.sources.user import Units
from server.sources.weather.weatherkit import check_private_key

__all__ = ["WeatherConfig", "WeatherSettings"]


class WeatherConfig(ConfigModel):
    """How the weather is shown."""

    units: Units | None = Field(
        default=None, title="Units", description="If not set, those of your own settings."
    )
    hourly_limit: int = Field(
        default=12, ge=0, le=48, title="Hours", description="How many hours ahead are shown; 0 for none."
    )
    daily_limit: int = Field(
        default=7, ge=0, le=10, title="Days", description="How many days are shown; 0 for none."
    )


def _usable(value: SecretStr) -> SecretStr:
    check_private_key(value.get_secret_value())
    return value


_Id = Annotated[str, Field(min_length=1, max_length=200)]


class WeatherSettings(ConfigModel):
    """An operator's access to Apple's WeatherKit. Without it the weather comes from Open-Meteo."""

    private_key: Annotated[SecretStr, AfterValidator(_usable)] = Field(
        title="Private key", description="The key file (.p8) that Apple issued, in PEM form."
    )
    key_id: _Id = Field(title="Key id", description="The ten characters that name the key.")
    team_id: _Id = Field(title="Team id", description="The ten characters that name your team.")
    service_id: _Id = Field(
        title="Service id",
        description="The identifier registered for WeatherKit.",
        examples=["com.example.weather"],
    )

    @classmethod
    def of(cls, key: WeatherKitKey) -> WeatherSettings:
        """The same as settings. Raises ValueError for a key that can't sign."""
        return cls.model_validate(
            {
                "privateKey": key.private_key,
                "keyId": key.key_id,
                "teamId": key.team_id,
                "serviceId": key.service_id,
            }
        )

    def key(self) -> WeatherKitKey:
        """The same, as it is used."""
        return WeatherKitKey(self.private_key.get_secret_value(), self.key_id, self.team_id, self.service_id)

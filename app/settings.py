"""Settings, from the environment."""

from functools import cached_property
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from factors.regularization import Limits

Home = Annotated[Path, AfterValidator(Path.expanduser)]


class Settings(BaseSettings):
    """Where state lives and which model plays the agents.

    Attributes:
        home: folder of markets and records; ``ALPHAAGENT_HOME``, else the platform's user data folder.
        model: model for runs that name none, used once a key is set; ``ALPHAAGENT_MODEL``.
        model_timeout: seconds that one model call may take; ``ALPHAAGENT_MODEL_TIMEOUT``.
        limits: what the gate refuses in runs that do not say otherwise; ``ALPHAAGENT_LIMITS__LENGTH`` and so on.
        loosest_limits: what no run may loosen its limits beyond; ``ALPHAAGENT_LOOSEST_LIMITS__LENGTH`` and so on.
        openai_api_key: ``OPENAI_API_KEY``; without it the offline researcher plays the agents.
        openai_base_url: ``OPENAI_BASE_URL``, any OpenAI-compatible endpoint.
    """

    model_config = SettingsConfigDict(
        env_prefix="ALPHAAGENT_", env_ignore_empty=True, frozen=True, env_nested_delimiter="__"
    )

    home: Home = Field(default_factory=lambda: platformdirs.user_data_path("alphaagent"))
    model: str = "gpt-5-mini"
    model_timeout: float = Field(default=120, gt=0)
    limits: Limits = Limits()
    loosest_limits: Limits = Limits(
        length=120, parameters=40, fields=20, depth=32, look_back=1000, shared_nodes=30, variation=0.9, alignment=0.3
    )
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: str | None = Field(default=None, validation_alias="OPENAI_BASE_URL")

    @cached_property
    def database_url(self) -> str:
        """The records' SQLAlchemy address."""
        return f"sqlite:///{self.home.absolute() / 'records.sqlite'}"

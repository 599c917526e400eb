"""Settings, from the environment."""

from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from factors.admission import Thresholds
from factors.errors import SettingError
from factors.regularization import Limits
from graphs.endpoint import Endpoint
from storage.retention import Retention
from storage.runs import Quota

Home = Annotated[Path, AfterValidator(Path.expanduser)]


def _postgres(url: str) -> str:
    if not url.startswith("postgresql://"):
        raise ValueError("expected an address like postgresql://user:password@host/name")
    return url


class Settings(BaseSettings):
    """Where state lives, which models play the agents, and what users may spend.

    Attributes:
        home: folder of markets and records; ``ALPHAAGENT_HOME``, else the platform's user data folder.
        database_url: of a PostgreSQL database for the records, where they outgrow SQLite; ``ALPHAAGENT_DATABASE_URL``,
            like ``postgresql://user:password@host/name``.
        imports: folder of the data sets that admins may have the service import; ``ALPHAAGENT_IMPORTS``, else
            ``imports`` in the home.
        concurrency: runs that one process works on at once; ``ALPHAAGENT_CONCURRENCY``.
        models: what is known of each model by the name that runs give it, as JSON; ``ALPHAAGENT_MODELS``. A run may
            name these and the two below. What an entry leaves out is as :class:`graphs.endpoint.Endpoint` says; its
            name there is the same, its address that below, and so is its key unless it has an address of its own.
        reasoning: who plays Idea and Factor in runs that name no model, once a key is set; ``ALPHAAGENT_REASONING``.
        chat: who judges, plays Eval and repairs answers, the run's model where it is ``None``; ``ALPHAAGENT_CHAT``.
        limits: what the gate refuses in runs that do not say otherwise; ``ALPHAAGENT_LIMITS__LENGTH`` and so on.
        loosest_limits: what no run may loosen its limits beyond; ``ALPHAAGENT_LOOSEST_LIMITS__LENGTH`` and so on.
        thresholds: what measured candidates are held to; ``ALPHAAGENT_THRESHOLDS__COST`` and so on.
        openings: how often hold-outs may be opened in a quarter; ``ALPHAAGENT_OPENINGS``.
        quota: what a user may do at once, and spend in 24 hours, unless an admin sets something else for them;
            ``ALPHAAGENT_QUOTA__CONCURRENT_RUNS`` and so on.
        workers: processes that measure formulas, at most; ``ALPHAAGENT_WORKERS``.
        worker_memory: bytes that each may take beside its market; ``ALPHAAGENT_WORKER_MEMORY``.
        candidate_seconds: that each step of measuring one formula may take; ``ALPHAAGENT_CANDIDATE_SECONDS``.
        retention: how long events of finished runs are kept; ``ALPHAAGENT_RETENTION__DAYS`` and ``…__BYTES``.
        openai_api_key: ``OPENAI_API_KEY``; without a key the offline researcher plays the agents.
        openai_base_url: ``OPENAI_BASE_URL``, any OpenAI-compatible endpoint.
    """

    model_config = SettingsConfigDict(
        env_prefix="ALPHAAGENT_", env_ignore_empty=True, frozen=True, env_nested_delimiter="__"
    )

    home: Home = Field(default_factory=lambda: platformdirs.user_data_path("alphaagent"))
    database_url: Annotated[str, AfterValidator(_postgres)] | None = None
    imports: Home | None = None
    concurrency: int = Field(default=2, ge=1, le=64)
    models: dict[str, Endpoint] = Field(default_factory=dict)
    reasoning: str = "gpt-5-mini"
    chat: str | None = None
    limits: Limits = Limits()
    loosest_limits: Limits = Limits(
        length=120, parameters=40, fields=20, depth=32, look_back=1000, shared_nodes=30, variation=0.9, alignment=0.3
    )
    thresholds: Thresholds = Thresholds()
    openings: int = Field(default=10, ge=0)
    quota: Quota = Quota()
    workers: int = Field(default=3, ge=1)
    worker_memory: int = Field(default=4 << 30, ge=1 << 20)
    candidate_seconds: float = Field(default=300.0, gt=0)
    retention: Retention = Retention()
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: str | None = Field(default=None, validation_alias="OPENAI_BASE_URL")

    @cached_property
    def records_url(self) -> str:
        """The address of the records."""
        return self.database_url or self._beside("records")

    @cached_property
    def workflows_url(self) -> str:
        """The address of what DBOS keeps of workflows: in the records' database, or in a file beside theirs."""
        return self.database_url or self._beside("dbos")

    @cached_property
    def checkpoints_file(self) -> Path:
        """Where checkpoints are kept unless the records' database holds them."""
        return self.home.absolute() / "checkpoints.sqlite"

    @property
    def import_folder(self) -> Path:
        """The folder of the data sets that admins may have the service import."""
        return self.imports or self.home / "imports"

    def _beside(self, name: str) -> str:
        return f"sqlite:///{self.home.absolute() / f'{name}.sqlite'}"

    @property
    def has_model(self) -> bool:
        """Whether a language model plays the agents of runs that name none."""
        return bool(self.openai_api_key or self.models.get(self.reasoning, Endpoint()).api_key)

    def training_cutoff(self, model: str) -> date | None:
        """The last day that a run's model may have read of, ``None`` where that is not known."""
        return self.models.get(model, Endpoint()).training_cutoff

    def endpoints(self, model: str) -> tuple[Endpoint, Endpoint]:
        """Where the agents of a run that names this model ask: the reasoning model's, then the chat model's.

        Raises:
            SettingError: one of them may not be named, or has no key.
        """
        return self.endpoint(model), self.endpoint(self.chat or model)

    def endpoint(self, model: str) -> Endpoint:
        """Where a model answers that a run may name.

        Raises:
            SettingError: it may not, or has no key.
        """
        allowed = list(dict.fromkeys([*self.models, self.reasoning, *([self.chat] if self.chat else [])]))
        if model not in allowed:
            known = ", ".join([*allowed, "offline"])
            raise SettingError(f"model {model!r} is not one of this server's: {known}; ALPHAAGENT_MODELS adds others")
        found = self.models.get(model, Endpoint())
        # The key of one address is not shown to another.
        key = found.api_key or (None if found.base_url else self.openai_api_key)
        if key is None:
            missing_key = "an api_key beside its base_url" if found.base_url else "OPENAI_API_KEY to be set"
            raise SettingError(f"model {model!r} needs {missing_key}; without a key use model 'offline'")
        missing = {"name": found.name or model, "api_key": key, "base_url": found.base_url or self.openai_base_url}
        return found.model_copy(update=missing)

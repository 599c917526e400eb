"""Where a language model answers, and on what terms."""

from datetime import date

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Endpoint(BaseModel):
    """A model behind an OpenAI-compatible endpoint.

    Attributes:
        name: what the endpoint calls the model.
        api_key: what to show for it.
        base_url: the endpoint; OpenAI's own where it is ``None``.
        temperature: how freely the model draws; not sent where it is ``None``, as some models take none.
        timeout: seconds that an answer may take, tries that failed and other ways of asking included.
        stream: whether the answer is to come in pieces.
        max_output_tokens: of one answer; a call is not begun where the budget has no room for so many.
        input_price: US dollars for a million tokens read, ``None`` where it is not known.
        output_price: the same for those written.
        attempts: tries where a fault may pass.
        training_cutoff: the last day that the model may have read of, as its vendor says: what it writes is not out of
            sample before.
        backoff: seconds before the second try, on average; twice as long before each further one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="", max_length=200)
    api_key: SecretStr | None = None
    base_url: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    timeout: float = Field(default=120, gt=0)
    stream: bool = False
    max_output_tokens: int = Field(default=16_000, ge=1)
    input_price: float | None = Field(default=None, ge=0)
    output_price: float | None = Field(default=None, ge=0)
    attempts: int = Field(default=3, ge=1, le=10)
    backoff: float = Field(default=1.0, ge=0)
    training_cutoff: date | None = None

    def usd(self, input_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost, US dollars; ``None`` where a price is not known."""
        if self.input_price is None or self.output_price is None:
            return None
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1_000_000

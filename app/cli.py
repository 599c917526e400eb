"""The command line, ``alphaagent``."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from typer.exceptions import TyperException

from app import display, logs
from app.appraisal import appraised, ledger_of, overfitting, refusals
from app.commands import backup
from app.commands.data import DEMO, data
from app.commands.options import Json
from app.commands.serve import serve, work
from app.commands.token import tokens
from app.engine import run_engine
from app.inspection import as_alphas, inspect, known_alphas
from app.library import with_status
from app.mining import mine_and_follow
from app.panels import laboratory, load_panel
from app.promotion import promote
from app.runner import check_request, current_user, operator
from app.settings import Settings
from factors.alphas import published, read_alphas
from factors.causality import prove
from factors.columns import STANDARD_FIELDS
from factors.errors import AlphaAgentError, DataError, SettingError
from factors.evaluator import Evaluator
from factors.legacy import parse_legacy
from factors.operators import COMPOSITES, OPERATORS
from factors.parse import parse
from factors.prose import on_one_line
from factors.regularization import Limits
from storage.markets import list_markets, open_market
from storage.records import Records
from storage.runs import Budget, RunRequest

# What a run has come to, in its document.
TOLD = (
    "status", "reason", "stopped", "error", "seed", "snapshot", "seconds", "rounds", "evaluations", "model_calls",
    "input_tokens", "output_tokens", "usd", "unpriced_calls",
)  # fmt: skip
# A formula may begin with a minus sign, which is not the beginning of an option.
FORMULA_FIRST = {"ignore_unknown_options": True}

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Mine alpha factors whose numbers can be trusted.")
factors = typer.Typer(no_args_is_help=True, help="The team's library of accepted factors.")
zoo = typer.Typer(no_args_is_help=True, help="Known alphas, which a candidate must differ from.")
app.add_typer(data, name="data")
app.add_typer(zoo, name="zoo")
app.add_typer(factors, name="factors")
app.add_typer(backup.commands)
app.add_typer(tokens, name="token")
app.command()(serve)
app.command()(work)

Market = Annotated[str, typer.Option(help="Name of an imported market.")]
Dialect = Annotated[
    Literal["alphaagent", "legacy"], typer.Option(help="How it is spelt; legacy as older published formulas.")
]
PARSERS = {"alphaagent": parse, "legacy": parse_legacy}
Universe = Annotated[str | None, typer.Option(help="One of the market's universes; its first by default.")]


def main() -> None:
    """Run the command line; a mistake in the request is one line on standard error and exit status 2."""
    logs.configure(logging.WARNING)
    try:
        status = app(standalone_mode=False)
    except TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if "Usage:" in message:  # no command was named, and this is the help
            typer.echo(message, err=True)
            raise SystemExit(2) from None
        _fail(message)
    except (AlphaAgentError, OSError) as error:
        _fail(str(error))
    except SettingsError as error:
        _fail(f"{error}: its value is not JSON")
    except ValidationError as error:
        fault = error.errors()[0]
        _fail(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}")
    raise SystemExit(status or 0)


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {on_one_line(message)}", err=True)
    raise SystemExit(2)


@app.command()
def mine(
    direction: Annotated[str, typer.Argument(help="A market idea in words.")],
    market: Market,
    rounds: Annotated[int, typer.Option(min=1, max=1000)] = Budget().rounds,
    directions: Annotated[int, typer.Option(min=1, max=16, help="Rounds side by side.")] = Budget().directions,
    candidates: Annotated[int, typer.Option(min=1, max=64, help="Formulas a round.")] = Budget().candidates,
    attempts: Annotated[int, typer.Option(min=0, max=10, help="Rewrites of a refused one.")] = Budget().attempts,
    evaluations: Annotated[int, typer.Option(min=1, max=100_000)] = Budget().evaluations,
    seconds: Annotated[int, typer.Option(min=1, max=86_400)] = Budget().seconds,
    model_calls: Annotated[int, typer.Option(min=1, max=100_000)] = Budget().model_calls,
    input_tokens: Annotated[int, typer.Option(min=1, max=10**9)] = Budget().input_tokens,
    output_tokens: Annotated[int, typer.Option(min=1, max=10**9)] = Budget().output_tokens,
    usd: Annotated[float | None, typer.Option(help="Of models with a price.")] = Budget().usd,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Random unless given.")] = None,
    universe: Universe = None,
    model: Annotated[str | None, typer.Option(help="A model's name, or offline.")] = None,
    limit: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the gate, e.g. length=40.")] = None,
    as_json: Json = False,
) -> None:
    """Search a market for factors along a direction."""
    budget = Budget(
        rounds=rounds,
        directions=directions,
        candidates=candidates,
        attempts=attempts,
        evaluations=evaluations,
        seconds=seconds,
        model_calls=model_calls,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        usd=usd,
    )
    limits = Limits.model_validate({name: value for name, _, value in (text.partition("=") for text in limit or ())})
    request = RunRequest(
        direction=direction, market=market, universe=universe, seed=seed, model=model, budget=budget, limits=limits
    )
    settings = Settings()
    check_request(settings, request)  # before there are records, so that a refused request leaves no trace
    with run_engine(settings, room=0) as engine:
        records = engine.runner.records
        run, accepted = mine_and_follow(engine, request, quiet=as_json)
        tried, _ = records.candidates(run.id, limit=None)
        trials, chance = records.ledger.count(market), overfitting(records, run, tried)
    if as_json:
        told = {name: getattr(run, name) for name in TOLD}
        document = {"run_id": run.id, **told, "accepted": [factor.model_dump(mode="json") for factor in accepted]}
        typer.echo(json.dumps(document, indent=2))
    else:
        display.leaderboard(Console(), run, accepted, refusals(tried), trials, chance)
        display.next_steps(Console(), settings, demo=market == DEMO)
    if run.status == "failed":
        _fail(run.error or "the run failed")


@app.command("eval", context_settings=FORMULA_FIRST)
def evaluate_formula(
    formula: str,
    market: Market,
    universe: Universe = None,
    dialect: Dialect = "alphaagent",
    values: Annotated[Path | None, typer.Option(help="Write (date, symbol, value) to this Parquet file.")] = None,
    as_json: Json = False,
) -> None:
    """Measure one formula on train and valid; the first time, that is one more trial in the team's ledger."""
    if values is not None and not values.absolute().parent.is_dir():
        raise SettingError(f"no folder {values.parent} to write {values.name} into")
    if values is not None and values.is_dir():
        raise SettingError(f"{values} is a directory, not a file to write")
    settings = Settings()
    snapshot = open_market(settings.home, market)
    universe = snapshot.universe(universe)
    expr = PARSERS[dialect](formula, snapshot.series)
    with Records.open(settings.records_url) as records:
        records.people.ask_evaluation(operator(), snapshot.id, settings.quota)
        found = appraised(settings, records, laboratory(snapshot, universe), snapshot, expr, universe, current_user())
    if values is not None:
        panel, _ = load_panel(snapshot, universe)
        with Evaluator(panel).values(expr) as result:
            _write_values(panel.frame(result).write_parquet, values)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        display.appraisal(Console(), found, snapshot.bars_per_year)


@app.command(context_settings=FORMULA_FIRST)
def check(
    formula: str,
    market: Annotated[str | None, typer.Option(help="Check against this market's fields and library.")] = None,
    as_json: Json = False,
) -> None:
    """The structural verdict on a formula: exit status 0 accepted, 1 refused, 2 not a formula."""
    settings = Settings()
    columns: tuple[str, ...] = STANDARD_FIELDS
    if market is not None:
        columns = open_market(settings.home, market).series
    expr = parse(formula, columns)
    with Records.open(settings.records_url) as records:
        library = records.library(market) if market is not None else []
        found = inspect(expr, known_alphas(records.alphas(), library), settings.limits)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        display.inspection(Console(), found)
    raise typer.Exit(0 if found.accepted else 1)


@app.command("prove", context_settings=FORMULA_FIRST)
def prove_causal(
    formula: str,
    market: Market,
    universe: Universe = None,
    dates: Annotated[int, typer.Option(min=1, max=100, help="At how many the market is changed.")] = 3,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the dates and of what is made up.")] = 0,
    as_json: Json = False,
) -> None:
    """Prove that a formula reads nothing it may not know: exit status 0 proven, 1 not proven, 2 not a formula."""
    snapshot = open_market(Settings().home, market)
    universe = snapshot.universe(universe)
    expr = parse(formula, snapshot.series)
    panel, _ = load_panel(snapshot, universe)
    certificate = prove(expr, panel, market=market, snapshot=snapshot.id, universe=universe, seed=seed, dates=dates)
    if as_json:
        typer.echo(certificate.model_dump_json(indent=2))
    else:
        display.certificate(Console(), certificate)
    raise typer.Exit(0 if certificate.proven else 1)


@zoo.command("list")
def list_zoo(
    market: Annotated[str | None, typer.Option(help="With this market's library, and what it lacks for each.")] = None,
    as_json: Json = False,
) -> None:
    """The known alphas: published ones, then those imported, then a market's library."""
    settings = Settings()
    columns = STANDARD_FIELDS if market is None else open_market(settings.home, market).columns
    with Records.open(settings.records_url) as records:
        library = [] if market is None else records.library(market)
        alphas = [*published(), *records.alphas(), *as_alphas(library)]
    entries = [
        {
            "name": alpha.name,
            "formula": str(alpha.expr),
            "source": alpha.source,
            "needs": sorted(alpha.needs.difference(columns)),
        }
        for alpha in alphas
    ]
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
    else:
        display.zoo(Console(), entries)


@zoo.command("import")
def import_zoo(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="CSV of name and formula.")],
    dialect: Dialect = "alphaagent",
) -> None:
    """Make more alphas known; a file with a line that is none imports nothing."""
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is no text in UTF-8") from error
    try:
        alphas = read_alphas(lines, source.name, PARSERS[dialect])
    except DataError as error:
        hint = "; older files may need --dialect legacy" if dialect != "legacy" else ""
        raise DataError(f"{error}{hint}") from error
    with Records.open(Settings().records_url) as records:
        records.add_alphas(alphas, operator())
    typer.echo(f"{len(alphas)} alphas of {source.name} are known now")


@app.command()
def ledger(
    market: Annotated[str | None, typer.Option(help="This market alone.")] = None, as_json: Json = False
) -> None:
    """How much the team has tried on each market, what luck alone would show, and the openings of the hold-out left."""
    settings = Settings()
    markets = list_markets(settings.home, market)
    with Records.open(settings.records_url) as records:
        found = [ledger_of(settings, records, snapshot.market) for snapshot in markets]
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2))
    else:
        display.ledger(Console(), found)


@app.command()
def operators() -> None:
    """The operators of the factor language."""
    display.operators(Console(), OPERATORS.values(), COMPOSITES)


@factors.command("list")
def list_factors(market: Annotated[str | None, typer.Option()] = None, as_json: Json = False) -> None:
    """The accepted factors, newest first."""
    if market is not None:
        open_market(Settings().home, market)
    with Records.open(Settings().records_url) as records:
        found = with_status(records, records.factors(market=market)[0])
    if as_json:
        typer.echo(json.dumps([factor.model_dump(mode="json") for factor in found], indent=2))
    else:
        display.factors(Console(), found)


@factors.command("promote")
def promote_factor(factor_id: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """Ask the sealed hold-out about a factor, once: exit status 0 live, 1 rejected, 2 not opened."""
    settings = Settings()
    with Records.open(settings.records_url) as records:
        opening = promote(settings, records, factor_id, operator())
    if as_json:
        typer.echo(opening.model_dump_json(indent=2))
    else:
        display.opening(Console(), opening)
    raise typer.Exit(0 if opening.status == "live" else 1)


@factors.command("retire")
def retire_factor(factor_id: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """Use a factor no more, for good; it stays in the library and known to the gate."""
    with Records.open(Settings().records_url) as records:
        retired = records.retirements.retire(records.factor(factor_id).id, operator())
    told = f"{retired.factor_id} was retired by {retired.user} on {retired.retired_at:%Y-%m-%d}"
    typer.echo(retired.model_dump_json(indent=2) if as_json else told)


def _write_values(write: Callable[[Path], None], path: Path) -> None:
    """Write beside the target and rename, so that a failure leaves no half-written file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

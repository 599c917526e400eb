import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from threading import Timer

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from factors.errors import SettingError
from storage.engine import connect
from storage.migrations import newest
from storage.records import Records
from storage.runs import RunRequest
from storage.schema import metadata

ROOT = Path(__file__).parents[2]
OPEN = "import sys; from storage.records import Records; Records.open(sys.argv[1]).close()"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/team/records.sqlite"


def definitions(url):
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT type, name, sql FROM sqlite_master ORDER BY name")).all()
    engine.dispose()
    return [tuple(row) for row in found if row.name != "alembic_version" and row.sql]


def query(url, statement):
    engine = connect(url)
    with engine.connect() as connection:
        found = connection.execute(text(statement)).scalar()
    engine.dispose()
    return found


def execute(url, statement):
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_an_empty_database_gets_every_table_and_its_revision(url):
    Records.open(url).close()
    engine = create_engine(url)
    assert set(inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}
    engine.dispose()
    assert query(url, "SELECT version_num FROM alembic_version") == newest()


def test_the_revisions_lead_to_the_schema(url):
    Records.open(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_revisions_write_the_same_definitions_as_the_schema(url, tmp_path):
    # What compare_metadata does not look at: checks, names and the order of columns.
    Records.open(url).close()
    direct = f"sqlite:///{tmp_path}/direct.sqlite"
    engine = create_engine(direct)
    metadata.create_all(engine)
    engine.dispose()

    def normal(sql):
        # An added column stands in the last line.
        return sorted(re.split(r",\s*(?![^()]*\))", sql.replace("\n", " ").removesuffix(")").strip()))

    # Triggers are no part of the schema that SQLAlchemy knows.
    tables = [definition for definition in definitions(url) if definition[0] != "trigger"]
    assert [(kind, name, normal(sql)) for kind, name, sql in tables] == [
        (kind, name, normal(sql)) for kind, name, sql in definitions(direct)
    ]


def test_every_table_can_be_defined_on_postgres():
    for table in metadata.sorted_tables:
        assert table.name in str(CreateTable(table).compile(dialect=postgresql.dialect()))


def test_opening_twice_keeps_what_is_there(url):
    with Records.open(url) as first:
        run = first.create_run(RunRequest(direction="d", market="m"), universe="u", snapshot="s", seed=1, model="m")
        with Records.open(url) as second:
            assert second.run(run.id) == run
    with Records.open(url) as third:
        assert third.run(run.id) == run


def test_processes_that_open_a_new_database_at_once_all_succeed(url):
    command = [sys.executable, "-W", "error", "-c", OPEN, url]
    openers = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(opener.communicate()[1], opener.returncode) for opener in openers] == [("", 0)] * 3
    assert query(url, "SELECT count(*) FROM alembic_version") == 1


def test_opening_waits_for_a_writer_of_a_file_without_write_ahead_log(url, tmp_path):
    # Here SQLite answers SQLITE_BUSY at once, whatever its timeout.
    (tmp_path / "team").mkdir()
    with closing(sqlite3.connect(tmp_path / "team/records.sqlite", check_same_thread=False)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("CREATE TABLE other (id)")
        release = Timer(0.3, writer.commit)
        release.start()
        Records.open(url).close()
        release.join()
    assert query(url, "PRAGMA journal_mode") == "wal"


def test_a_newer_database_is_refused_and_left_alone(url):
    Records.open(url).close()
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    before = definitions(url)
    with pytest.raises(SettingError, match="'9999', newer than this version"):
        Records.open(url)
    assert definitions(url) == before
    assert query(url, "SELECT version_num FROM alembic_version") == "9999"


def test_a_failed_upgrade_leaves_nothing_behind(url, tmp_path):
    (tmp_path / "team").mkdir()
    execute(url, "CREATE TABLE factors (id TEXT)")  # collides with the last tables of the first revision
    before = definitions(url)
    with pytest.raises(Exception, match="factors already exists"):
        Records.open(url)
    assert definitions(url) == before


def test_connections_are_durable_and_check_references(url):
    Records.open(url).close()
    assert query(url, "PRAGMA journal_mode") == "wal"
    assert query(url, "PRAGMA synchronous") == 2
    assert query(url, "PRAGMA foreign_keys") == 1
    assert query(url, "PRAGMA busy_timeout") == 10_000


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "sqlite:///:memory:"])
def test_what_is_no_file_of_records_is_refused(url):
    with pytest.raises(SettingError, match=r"sqlite:////folder/records\.sqlite"):
        Records.open(url)

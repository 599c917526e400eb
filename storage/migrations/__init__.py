"""The schema's revisions, and the step that brings a database to the newest."""

from functools import cache
from pathlib import Path
from threading import Lock
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from factors.errors import SettingError

_SCRIPTS: Final = Path(__file__).parent

# Alembic hands its scripts their connection through module globals: one upgrade at a time in a process.
_upgrading: Final = Lock()


def upgrade(connection: Connection) -> None:
    """Bring the database to the newest revision, in the connection's transaction with the write lock taken.

    Raises:
        SettingError: the database has a revision that this version does not know.
    """
    config = Config()
    # Config interpolates its options: a per cent sign in the path would be read as one.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    found = revision(connection)
    if found is not None and found not in {script.revision for script in ScriptDirectory(_SCRIPTS).walk_revisions()}:
        raise SettingError(f"the records are of revision {found!r}, newer than this version of AlphaAgent: upgrade it")
    with _upgrading:
        command.upgrade(config, "head")


def revision(connection: Connection) -> str | None:
    """The revision that the database has, ``None`` while it has none."""
    return MigrationContext.configure(connection).get_current_revision()


@cache
def newest() -> str:
    """The revision that :func:`upgrade` leads to."""
    [head] = ScriptDirectory(_SCRIPTS).get_heads()
    return head

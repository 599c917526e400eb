"""The schema's revisions, and the step that brings a database to the newest."""

from pathlib import Path
from threading import Lock
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from factors.errors import SettingError

# Alembic hands its scripts their connection through module globals: one upgrade at a time in a process.
_upgrading: Final = Lock()


def upgrade(connection: Connection) -> None:
    """Bring the database to the newest revision, in the connection's transaction with the write lock taken.

    Raises:
        SettingError: the database has a revision that this version does not know.
    """
    config = Config()
    # Config interpolates its options: a per cent sign in the path would be read as one.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    for revision in MigrationContext.configure(connection).get_current_heads():
        if revision not in known:
            raise SettingError(
                f"the records are of revision {revision!r}, newer than this version of AlphaAgent: upgrade it"
            )
    with _upgrading:
        command.upgrade(config, "head")

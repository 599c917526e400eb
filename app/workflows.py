"""What DBOS keeps of workflows, as JSON; a row that would have it unpickle anything is refused.

A pickle calls whatever it names as it is loaded, so whoever can write to the database could run code here.
"""

from typing import Final, NoReturn

from dbos import DBOSConfig, DBOSPortableJSONSerializer
from dbos._serialization import DefaultSerializer

from factors.errors import DataError
from storage.engine import PATIENCE_SECONDS

PROTOCOL: Final = "1"  #: of workflows: one that another protocol began is not resumed


def _refuse(_: DefaultSerializer, __: str) -> NoReturn:
    raise DataError("a workflow is stored as a pickle, which is not read")


# DBOS reads a row by the serialization that the row itself names, whatever its configuration says.
DefaultSerializer.deserialize = _refuse  # type: ignore[method-assign,assignment]


def configuration(url: str, executor: str) -> DBOSConfig:
    """How DBOS works for an executor, over the database at ``url``."""
    return DBOSConfig(
        name="alphaagent",
        system_database_url=url,
        db_engine_kwargs={"hide_parameters": True},
        sys_db_idle_transaction_timeout_sec=PATIENCE_SECONDS,
        executor_id=executor,
        application_version=PROTOCOL,
        serializer=DBOSPortableJSONSerializer(),
        use_listen_notify=False,  # nobody sends notes; the connection that would listen outlives a short life
        notification_listener_polling_interval_sec=0.1,  # as long does it take to end
        log_level="WARNING",
    )

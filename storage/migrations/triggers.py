"""Triggers that revisions put on tables."""

from alembic import op


def append_only(table: str, *keys: list[str]) -> None:
    """Have the database refuse to change or remove a row of a table with these keys, or to put another in its place."""
    if op.get_bind().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} can only be added to'); END"
            )
        # INSERT OR REPLACE removes the row in its way and fires no trigger of that.
        same = (" AND ".join(f"{name} = NEW.{name}" for name in key) for key in (*keys, ["rowid"]))
        taken = f"SELECT 1 FROM {table} WHERE {' OR '.join(f'({one})' for one in same)}"  # noqa: S608
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS ({taken}) "
            f"BEGIN SELECT RAISE(ABORT, '{table} can only be added to'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} can only be added to'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()"
    )

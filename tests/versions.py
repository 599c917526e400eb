"""The files of a version of a market, as tests look into them and damage them."""

import duckdb

from storage.snapshot import bars_of, literal


def rows(version, side, name):
    """The rows of a table on one side of the end of valid."""
    with duckdb.connect(version / f"{side}.duckdb", read_only=True) as con:
        query = bars_of(version, side) if name == "bars" else f"FROM {name}"
        return con.execute(query).fetchall()


def columns(version, side):
    """The columns of the bars on one side."""
    with duckdb.connect() as con:
        return [name for name, *_ in con.execute(f"DESCRIBE {bars_of(version, side)}").fetchall()]


def rewrite(version, side, statement):
    """Change the bars on one side by a statement on the table ``bars``; the files stay as many."""
    for path in (version / side).glob("*.parquet"):
        with duckdb.connect() as con:
            con.execute(f"CREATE TABLE bars AS FROM read_parquet({literal(path)})")
            con.execute(statement)
            con.execute(f"COPY bars TO {literal(path)} (FORMAT parquet)")


def content(version, side):
    """All bytes of one side."""
    paths = [version / f"{side}.duckdb", *sorted((version / side).glob("*.parquet"))]
    return b"".join(path.read_bytes() for path in paths)

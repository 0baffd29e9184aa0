"""Tables of results in Parquet, and questions to them in SQL (DuckDB, from the extra [lens])."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regard.data.sources import locate
from regard.errors import Problem


def query(path: str | Path, sql: str) -> Any:
    """What the SQL selects, as an Arrow table; the file's table is called by its stem, and `heads` if that is free.

    Raises `Problem` where the file is no Parquet or the question is wrong.
    """
    path = locate(path)
    try:
        import duckdb
    except ImportError:
        raise Problem("Questions in SQL need DuckDB: pip install 'regard[lens]'.") from None
    with duckdb.connect() as connection:
        try:
            connection.read_parquet(str(path)).create_view("heads")
            stem = re.sub(r"\W", "_", path.stem)
            if stem != "heads":
                connection.sql(f'CREATE VIEW "{stem}" AS FROM heads')
            found = connection.sql(sql)
            if found is None:
                raise Problem("The SQL selects nothing. Write a SELECT, for example: SELECT * FROM heads LIMIT 5.")
            return found.to_arrow_table()
        except duckdb.Error as error:
            names = ", ".join(row[0] for row in connection.sql("DESCRIBE heads").fetchall()) if _is_table(path) else ""
            known = f" The columns of heads are: {names}." if names else ""
            raise Problem(f"{str(error).splitlines()[0]}.{known}") from None


def _is_table(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"

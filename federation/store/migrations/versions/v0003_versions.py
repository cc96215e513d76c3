"""Model versions tell size and number of files; their manifests are in the artifact store.

Input: records of kind Model whose versions hold whole manifests. Output: the same versions, with
their numbers and digests. Their files were stored whole, not in chunks: clusters that have them
keep serving them, and to copy them anywhere else they have to be pushed again.
"""

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_RECORDS = sa.table(
    "records",
    sa.column("kind", sa.String),
    sa.column("name", sa.String),
    sa.column("json", sa.LargeBinary),
)


def upgrade() -> None:
    """Replace manifests by what they say."""
    _change(_forward)


def downgrade() -> None:
    """Give each version a manifest without files: which they were is not known any more."""
    _change(_back)


def _change(how: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
    connection = op.get_bind()
    models = connection.execute(sa.select(_RECORDS).where(_RECORDS.c.kind == "Model")).all()
    for row in models:
        model = json.loads(row.json)
        model["versions"] = [how(row.name, version) for version in model.get("versions", [])]
        connection.execute(
            sa.update(_RECORDS)
            .where(_RECORDS.c.kind == "Model", _RECORDS.c.name == row.name)
            .values(json=json.dumps(model, separators=(",", ":")).encode())
        )


def _forward(_name: str, version: dict[str, Any]) -> dict[str, Any]:
    if "manifest" not in version:
        return version
    files = version["manifest"].get("files", [])
    rest = {key: value for key, value in version.items() if key != "manifest"}
    return rest | {"size": sum(file["size"] for file in files), "files": len(files)}


def _back(name: str, version: dict[str, Any]) -> dict[str, Any]:
    return version | {"manifest": {"model": name, "files": []}}

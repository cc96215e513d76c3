"""Which rollout a name on the command line means: a rollout's own, or a model's.

Input: a name, the operator API. Output: the document; completion of both kinds of names.
"""

import click
from click.shell_completion import CompletionItem

from federation.cli.client import ApiClient
from federation.cli.documents import Json, look, look_list, name_of
from federation.cli.options import live_names
from federation.contract.errors import NotFound
from federation.contract.names import did_you_mean
from federation.contract.resources import KINDS

KIND = next(kind for kind in KINDS if kind.plural == "rollouts")


def find_rollout(client: ApiClient, name: str) -> Json:
    """Return the rollout of that name, or of the model of that name: the one that goes on, else the
    newest. Raises NotFound with near misses."""
    try:
        return client.get("api", "v1", KIND.plural, name)
    except NotFound:
        items = all_rollouts(client)
    if mine := [each for each in items if look(each, "spec", "model") == name]:
        return mine[0]
    known = {name_of(each) for each in items} | {str(look(each, "spec", "model")) for each in items}
    raise NotFound(
        f"there is no rollout {name!r}, and none of a model of that name.",
        hint=f"{did_you_mean(name, known)} Start one with: fed rollout start MODEL --to VERSION",
    )


def all_rollouts(client: ApiClient) -> list[Json]:
    """Return all rollouts: those that go on first, of each sort the newest first."""
    items = look_list(client.get("api", "v1", KIND.plural), "items")
    items.sort(key=_age, reverse=True)
    return sorted(items, key=lambda each: bool(look(each, "status", "over")))


def _age(document: Json) -> tuple[str, int]:
    version = look(document, "metadata", "resourceVersion")
    created = str(look(document, "metadata", "createdAt") or "")
    return created, version if isinstance(version, int) else 0


def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of rollouts, then those of models."""
    found = live_names(ctx, KIND.plural, incomplete)
    return found + live_names(ctx, "models", incomplete)

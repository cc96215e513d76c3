"""`fed route explain --request ID`: where a request went that was answered, and why.

Input: a request's id; what the routers remember of it, over the operator API.
Output: per router that remembers it the story in a sentence, and what it chose among.
"""

from collections.abc import Iterator

from federation.cli.cells import shown
from federation.cli.documents import Json, look, look_list
from federation.cli.output import Format, Table, clean, coloured, put, put_value
from federation.cli.session import Session
from federation.contract.errors import NotFound, Unavailable


def recall(session: Session, request_id: str, output: Format) -> None:
    """Tell what became of a request. Raises NotFound if no router remembers it."""
    with session.client() as client:
        answer = client.get("api", "v1", "routes", "explain", request=request_id)
    routers = look_list(answer, "routers")
    if not routers:
        raise Unavailable("no router is connected.", hint="Start one with `fed-router`.")
    found = [each for each in routers if look(each, "explanation")]
    if not found:
        told = {clean(shown(look(each, "error"))) or "no answer" for each in routers}
        raise NotFound(f"no router could tell of it: {' '.join(sorted(told))}")
    if output in (Format.JSON, Format.YAML):
        put_value({**answer, "routers": found}, output)
        return
    for index, each in enumerate(found):
        if index:
            put("")
        for line in story(each):
            put(line)


def story(router: Json) -> Iterator[str]:
    """Yield what one router remembers."""
    name, url = clean(shown(look(router, "router"))), clean(shown(look(router, "url")))
    yield f"router {name} ({url})"
    for record in look_list(router, "explanation", "records"):
        version = clean(shown(look(record, "version")))
        model = clean(shown(look(record, "model"))) or "no model"
        client, tenant = clean(shown(look(record, "client"))), clean(shown(look(record, "tenant")))
        who = f"{client}, tenant {tenant}" if tenant else client
        yield (
            f"  {clean(shown(look(record, 'ended_at')))}  {model}@{version} for {who}: "
            f"{clean(shown(look(record, 'why')))}"
        )
        scores = look_list(record, "scores")
        if scores:
            rows = [_row(record, each) for each in scores]
            for line in Table(["", "CLUSTER", "REGION", "SCORE"], rows).lines(colour=coloured()):
                yield f"    {line}"


def _row(record: Json, scored: Json) -> list[str]:
    cluster, score = look(scored, "cluster"), look(scored, "score_ms")
    return [
        "*" if cluster == look(record, "chosen") else " ",
        shown(cluster),
        shown(look(scored, "region")),
        f"{score:.1f}ms" if isinstance(score, int | float) else "",
    ]

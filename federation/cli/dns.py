"""`fed dns export`: the routers as records for a DNS service that exists.

Input: a DNS name; the routers, over the operator API. Output: a zone file or JSON on stdout.
"""

import json

import click

from federation.cli.dns_records import as_json, as_zone, check_dns_name, export
from federation.cli.documents import look_list
from federation.cli.lazy import LazyGroup
from federation.cli.output import note, put
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import Unavailable

dns = LazyGroup(
    "dns",
    {"export": (f"{__name__}:export_records", "Print the routers as DNS records with weights.")},
    help="Bring the routers into your DNS.",
    epilog="\b\nExample:\n  fed dns export inference.example.net",
)


@command("export")
@click.argument("name")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["zone", "json"]),
    default="zone",
    show_default=True,
    help="A zone file, or JSON with weights and places for the import of a DNS service.",
)
@click.option(
    "--ttl",
    "ttl_s",
    type=click.IntRange(1, 86_400),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long resolvers may keep them.",
)
@pass_session
def export_records(session: Session, name: str, output: str, ttl_s: int) -> None:
    """Print the connected routers as DNS records, with weights by what they measure now.

    Nothing is changed anywhere: give it to your DNS service, again whenever routers come or go.
    docs/steering.md tells how to set up GeoDNS and anycast.

    \b
    Example:
      fed dns export inference.example.net > inference.zone
      fed dns export inference.example.net -o json --ttl 30
    """
    plain = check_dns_name(name)
    with session.client() as client:
        exported = export(plain, ttl_s, look_list(client.get("api", "v1", "routers"), "items"))
    if not exported.records:
        why = "; ".join(f"{router}: {why}" for router, why in exported.left_out.items())
        raise Unavailable(f"there is no router that clients could ask. {why}".strip())
    if output == "json":
        put(json.dumps(as_json(exported), indent=2))
        return
    for line in as_zone(exported):
        put(line)
    for router, why in exported.left_out.items():
        note(f"router {router} is left out: {why}.")

"""`fed rollout start` and `fed rollout undo`: a model's way to another version begins.

Input: MODEL, a version and the strategy's flags. Output: a POST of one rollout, or the plan of one.
With --wait, success means that the new version was promoted everywhere.
"""

from dataclasses import replace
from typing import Any

import click
from click.shell_completion import CompletionItem

from federation.cli.client import ApiClient
from federation.cli.documents import Json, live_spec, look, look_list, look_map, name_of, plain
from federation.cli.options import DurationType, dry_run_option, names_of, output_option
from federation.cli.output import Format, note, put, put_value
from federation.cli.rollout_find import KIND
from federation.cli.rollout_flags import StrategyFlags, strategy_options, with_strategy
from federation.cli.rollout_follow import show_tree
from federation.cli.rollout_plan import show_plan
from federation.cli.rollout_wait import WAITING, wait_until_over
from federation.cli.session import Session, command, pass_session, session_of
from federation.contract.errors import FederationError, NotFound
from federation.contract.names import check_model_name, check_name, did_you_mean
from federation.contract.resources import KINDS, DeploymentSpec
from federation.contract.rollout import RolloutSpec, RolloutStrategy

_DEPLOYMENT = next(kind for kind in KINDS if kind.name == "Deployment")
WHY = click.option("--why", default="", metavar="TEXT", help="Why; the history tells it.")


class VersionType(click.ParamType[int | str]):
    """A version number or an alias."""

    name = "version|alias"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Return the number, or the alias."""
        text = str(value)
        if text.isdecimal() and len(text) < 10:
            return int(text)
        return check_name("alias", text)


def _versions(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the aliases and versions of the model that was named."""
    try:
        with session_of(ctx).client(timeout_s=0.5) as client:
            document = client.get("api", "v1", "models", str(ctx.params.get("model") or "-"))
    except FederationError:
        return []
    numbers = [str(look(v, "version")) for v in look_list(document, "status", "versions")]
    names = [*look_map(document, "spec", "aliases"), *reversed(numbers)]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_TO: dict[str, Any] = {"type": VersionType(), "shell_complete": _versions}


@command("start")
@click.argument("model", shell_complete=names_of("models"))
@click.option("--to", "version", required=True, help="Version or alias.", **_TO)
@strategy_options
@click.option(
    "--name", default="", help="Name of the rollout.  [default: the model's and a number]"
)
@WHY
@dry_run_option
@WAITING
@click.option("--timeout", type=DurationType(), default="1h", show_default=True, help="Of --wait.")
@output_option()
@pass_session
def start(
    session: Session,
    model: str,
    version: int | str,
    strategy: StrategyFlags,
    name: str,
    why: str,
    dry_run: bool,
    wait: bool,
    timeout: float,
    output: Format,
) -> None:
    """Bring a model to another version, region by region.

    Options that are not given are as the deployment's own strategy has them, else the defaults. In
    each wave the new version is brought to the clusters, loaded and warmed; then it gets its share
    of the traffic, step by step, and is compared with the old one in the same region at the same
    time. If it does worse, all goes back by itself; the old version stays loaded until the end.

    With --dry-run: which clusters are in which wave, what would travel there and for how long, and
    where both versions do not fit. Nothing is changed.

    \b
    Example:
      fed rollout start shakespeare --to 2 --waves "eu-west; us-east,us-west; *" --steps 5,25,100
      fed rollout start shakespeare --to 2 --bake 2m --max-error-rate 1% --max-p95-ratio 1.2
      fed rollout start shakespeare --to 2 --waves "eu-west; *" --gate 2 --why "better at verse"
      fed rollout start shakespeare --to champion --dry-run
      fed rollout start filetype --to 2 --allow-signature-change --wait --timeout 30m
    """
    check_model_name(model)
    with_strategy(RolloutStrategy(), replace(strategy, gate=None))  # tells mistakes at once
    with session.client() as client:
        held = _strategy_of(client, model)
        spec = RolloutSpec(model=model, version=version, strategy=with_strategy(held, strategy))
        content: Json = {"spec": plain(spec), "name": name and check_name("rollout", name)}
        if dry_run:
            show_plan(client.send("POST", "api", "v1", "plan", "rollout", content=content), output)
            return
        document = client.send("POST", "api", "v1", KIND.plural, content={**content, "why": why})
        report(document, "started", output)
        if wait:
            wait_until_over(client, name_of(document), timeout_s=timeout)


@command("undo")
@click.argument("model", shell_complete=names_of("models"))
@click.option("--to", "version", default=0, help="[default: the one before]", **_TO)
@WHY
@dry_run_option
@WAITING
@click.option("--timeout", type=DurationType(), default="1h", show_default=True, help="Of --wait.")
@output_option()
@pass_session
def undo(
    session: Session,
    model: str,
    version: int | str,
    why: str,
    dry_run: bool,
    wait: bool,
    timeout: float,
    output: Format,
) -> None:
    """Bring a model back to a version that it had, everywhere at once.

    While a rollout goes on, `fed rollout abort` is what you want: it is instant.

    \b
    Example:
      fed rollout undo shakespeare
      fed rollout undo shakespeare --to 1 --why "v2 forgets the sonnets" --wait
    """
    check_model_name(model)
    with session.client() as client:
        content: Json = {"version": _number(client, model, version), "why": why}
        query = {"dryRun": "true"} if dry_run else {}
        path = ("api", "v1", "models", model, "undo")
        document = client.send("POST", *path, content=content, **query)
        goes_back = look(document, "status", "phase") in ("rolling-back", "rolled-back")
        done = "goes back" if goes_back else "started"
        report(document, f"{done} (server dry run)" if dry_run else done, output)
        if wait and not dry_run:
            wait_until_over(client, name_of(document), timeout_s=timeout)


def report(document: Json, outcome: str, output: Format) -> None:
    """Print what became of a rollout."""
    if output in (Format.JSON, Format.YAML):
        put_value(document, output)
        return
    title = f"rollout/{name_of(document)}"
    if output is Format.NAME:
        put(title)
        return
    put(f"{title} {outcome}")
    if output is Format.WIDE:
        show_tree(document)
        return
    status = look_map(document, "status")
    for words in (status.get("reason"), status.get("next")):
        if words:
            note(str(words))
    if not status.get("over"):
        note(f"watch it: fed rollout get {name_of(document)} -w")


def _strategy_of(client: ApiClient, model: str) -> RolloutStrategy:
    """Return the strategy of the model's deployment; the defaults if there is none."""
    for each in look_list(client.get("api", "v1", _DEPLOYMENT.plural), "items"):
        if look(each, "spec", "model") == model:
            spec = live_spec(_DEPLOYMENT, each)
            if isinstance(spec, DeploymentSpec) and spec.rollout is not None:
                return spec.rollout
    return RolloutStrategy()


def _number(client: ApiClient, model: str, version: int | str) -> int:
    """Return the number that a version or alias means now; raises NotFound."""
    if isinstance(version, int):
        return version
    aliases = look_map(client.get("api", "v1", "models", model), "spec", "aliases")
    if isinstance(number := aliases.get(version), int):
        return number
    raise NotFound(
        f"model {model!r} has no alias {version!r}.", hint=did_you_mean(version, aliases)
    )

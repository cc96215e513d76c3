"""`fed deploy`: which version of a model is served where.

Input: MODEL[@VERSION|ALIAS] and flags. Output: a PUT of one deployment; what no flag names stays as
it is. With --wait, success means that every cluster has it warm.
"""

from dataclasses import dataclass, replace

import click

from federation.cli.apply import apply_one, find
from federation.cli.client import ApiClient
from federation.cli.columns import deployment_reason
from federation.cli.documents import Json, Wanted, live_spec, look
from federation.cli.options import (
    LabelType,
    ListType,
    NumbersType,
    dry_run_option,
    names_of,
    output_option,
    wait_options,
)
from federation.cli.output import Format, note, put, put_value
from federation.cli.plan import ask, show_plans
from federation.cli.rollout_flags import StrategyFlags, strategy_options, with_strategy
from federation.cli.rollout_wait import RolloutFailed
from federation.cli.scaling import ScalingFlags, scaling_options, with_scaling
from federation.cli.session import Session, command, pass_session
from federation.cli.wait import wait_for
from federation.contract.errors import Conflict
from federation.contract.names import check_model_name, check_name, split_reference
from federation.contract.resources import KINDS, DeploymentSpec
from federation.contract.rollout import RolloutStrategy
from federation.contract.types import EngineKind

_ENGINES = (EngineKind.TRITON.value, EngineKind.RAY_SERVE.value)
_KIND = next(kind for kind in KINDS if kind.plural == "deployments")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What the flags say; None = nothing."""

    version: int | str | None
    regions: tuple[str, ...] | None
    scaling: ScalingFlags
    pinned: tuple[int, ...] | None
    residency: tuple[str, ...] | None
    labels: tuple[tuple[str, str], ...]
    clusters: int | None
    engine: EngineKind | None
    apart_from: tuple[str, ...] | None
    max_price: float | None
    strategy: StrategyFlags
    no_rollout: bool


@command("deploy")
@click.argument("reference", metavar="MODEL[@VERSION|ALIAS]", shell_complete=names_of("models"))
@click.option("--name", help="Name of the deployment.  [default: the model's name]")
@click.option("--regions", type=ListType(), help="Regions to serve it in.  [default: all]")
@scaling_options
@click.option("--pinned", type=NumbersType(), help="Versions to serve besides.")
@click.option("--residency", type=ListType(), help="Guarantee: never served outside these regions.")
@click.option("--label", "labels", type=LabelType(), multiple=True, help="Only clusters with it.")
@click.option("--clusters", type=click.IntRange(min=0), help="At how many clusters; 0 = all.")
@click.option("--engine", type=click.Choice(_ENGINES), help="Only clusters with this engine.")
@click.option("--apart-from", type=ListType(), help="Models that must not be at the same cluster.")
@click.option("--max-price", type=click.FloatRange(min=0), help="Per GPU-hour; 0 = any.")
@strategy_options
@click.option("--no-rollout", is_flag=True, help="New versions go everywhere at once.")
@dry_run_option
@wait_options
@output_option()
@pass_session
def deploy(
    session: Session,
    reference: str,
    name: str | None,
    regions: tuple[str, ...] | None,
    scaling: ScalingFlags,
    pinned: tuple[int, ...] | None,
    residency: tuple[str, ...] | None,
    labels: tuple[tuple[str, str], ...],
    clusters: int | None,
    engine: str | None,
    apart_from: tuple[str, ...] | None,
    max_price: float | None,
    strategy: StrategyFlags,
    no_rollout: bool,
    dry_run: bool,
    wait: bool,
    timeout: float,
    output: Format,
) -> None:
    """Serve a model version in regions.

    Without a version: the newest one for a new deployment, the same one for an existing deployment.
    With --waves, --steps or another option of rollouts, each later change of the version goes
    through a rollout of that strategy (see `fed rollout start --help`), also when an alias moves.
    An option that is not given leaves an existing deployment as it is; an empty text (--regions "")
    empties it.

    \b
    Example:
      fed deploy filetype --regions eu-west,us-east --wait
      fed deploy filetype@2 --pinned 1
      fed deploy filetype@champion --name filetype-eu --residency eu-west,eu-north
      fed deploy llama --clusters 3 --dry-run
      fed deploy llama --min 1 --max 8 --target 0.6
      fed deploy rarely-used --min 0 --max 2
      fed deploy llama@champion --waves "eu-west; *" --steps 5,100 --bake 10m
    """
    model, version = _reference(reference)
    wanted_name = check_name("deployment", name or default_name(model))
    said = _Said(
        version=version,
        regions=regions,
        scaling=scaling,
        pinned=pinned,
        residency=residency,
        labels=labels,
        clusters=clusters,
        engine=EngineKind(engine) if engine else None,
        apart_from=apart_from,
        max_price=max_price,
        strategy=strategy,
        no_rollout=no_rollout,
    )
    with session.client() as client:
        wanted = _wanted(client, model, wanted_name, said)
        if dry_run:
            show_plans([ask(client, wanted)], output)
            return
        outcome, document = apply_one(client, wanted, dry_run=False)
        _report(wanted, outcome, document, output)
        if wait:
            ready = wait_for(client, _KIND, wanted_name, not_ready, timeout_s=timeout)
            _check_not_rejected(ready, model)
            note(
                f"{wanted.title} is ready: {model} version {look(ready, 'status', 'version')} is "
                f"warm at {look(ready, 'status', 'warm')} clusters"
            )


def default_name(model: str) -> str:
    """Return a deployment name made from a model name, which may have more kinds of characters."""
    return model.lower().replace("_", "-").replace(".", "-").strip("-")


def not_ready(document: Json) -> str:
    """Return in words what a deployment lacks until it is ready, or ""."""
    resolved, routed = (
        look(document, "status", "version"),
        look(document, "status", "routed_version"),
    )
    if going := look(document, "status", "rollout"):
        return f"rollout {going} goes on; see: fed rollout get {going}"
    if not look(document, "status", "ready"):
        return deployment_reason(document) or "no cluster has it warm yet"
    if routed != resolved:
        return f"routers still send requests to version {routed}, not {resolved}"
    return ""


def _check_not_rejected(document: Json, model: str) -> None:
    """Raise RolloutFailed if what was wished for was rolled back."""
    if rejected := look(document, "status", "rejected"):
        raise RolloutFailed(
            f"version {rejected} was rolled back: version {look(document, 'status', 'version')} "
            "serves.",
            hint=f"See: fed rollout history {model}",
        )


def _reference(reference: str) -> tuple[str, int | str | None]:
    model, version = split_reference(reference)
    check_model_name(model)
    if version.isdecimal():
        return model, int(version)
    if "@" in reference and not version:
        raise click.UsageError("which version? Write MODEL@VERSION or MODEL@ALIAS.")
    return model, check_name("alias", version) if version else None


def _wanted(client: ApiClient, model: str, name: str, said: _Said) -> Wanted:
    """Return the deployment as wanted: the live one where the flags say nothing."""
    wanted = Wanted(
        kind=_KIND,
        name=name,
        spec=DeploymentSpec(model=model),
        resource_version=None,
        source="the command line",
    )
    live = find(client, wanted)
    held = live_spec(_KIND, live) if live is not None else wanted.spec
    if not isinstance(held, DeploymentSpec):
        raise TypeError(held)
    if held.model != model:
        raise Conflict(
            f"deployment {name!r} serves model {held.model!r}.",
            hint="Name another deployment with --name.",
        )
    spec = replace(
        held,
        version=held.version if said.version is None else said.version,
        regions=held.regions if said.regions is None else said.regions,
        pinned_versions=held.pinned_versions if said.pinned is None else said.pinned,
        residency=held.residency if said.residency is None else said.residency,
        cluster_labels=dict(said.labels) or held.cluster_labels,
        clusters=held.clusters if said.clusters is None else said.clusters,
        engine=said.engine or held.engine,
        anti_affinity=held.anti_affinity if said.apart_from is None else said.apart_from,
        max_price_per_gpu_hour=(
            held.max_price_per_gpu_hour if said.max_price is None else said.max_price
        ),
        rollout=_strategy(held.rollout, said),
    )
    read = look(live, "metadata", "resourceVersion")
    spec = with_scaling(spec, said.scaling)
    return replace(wanted, spec=spec, resource_version=read)


def _strategy(held: RolloutStrategy | None, said: _Said) -> RolloutStrategy | None:
    if said.no_rollout:
        if said.strategy.given:
            raise click.UsageError("--no-rollout has no strategy: leave out its options.")
        return None
    return with_strategy(held or RolloutStrategy(), said.strategy) if said.strategy.given else held


def _report(wanted: Wanted, outcome: str, document: Json, output: Format) -> None:
    if output in (Format.JSON, Format.YAML):
        put_value(document, output)
    elif output is Format.NAME:
        put(wanted.title)
    else:
        put(f"{wanted.title} {outcome}")
        for refusal in document.get("status", {}).get("cannot", []):
            note(f"not at {look(refusal, 'cluster')}: {look(refusal, 'reason')}")

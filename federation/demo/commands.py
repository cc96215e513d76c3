"""`fed demo`: a whole federation on this machine.

Input: command lines. Output: calls of `main` (which becomes the demo), `control` (which speaks with
a running one) and `load_run`. Imported only when `fed demo` is used; each command imports the rest.
"""

import asyncio
import json
import os
from typing import Any

import click

_NAME = click.option("--name", default="demo", hidden=True, help="Name of the demo.")


@click.group(
    "demo",
    invoke_without_command=True,
    epilog="\b\nExample:\n  fed demo\n  fed demo load --rate 50\n  fed demo kill eu-west",
)
@click.option(
    "--engines",
    default="",
    metavar="LIST",
    help="Regions by engine, like triton=4,ray=1 (the default on Linux) or ray=2.",
)
@click.option("--check", is_flag=True, help="Play the whole story without a terminal; exit 0 or 1.")
@click.option(
    "--check-seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=8),
    help="How long the check's load lasts at least.",
)
@click.option(
    "--check-rate",
    default=50.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="The check's load, in requests a second.",
)
@_NAME
def demo(name: str, **options: Any) -> int | None:
    """Run a whole federation on this machine: real processes, real engines, a simulated WAN.

    Starts one control plane, two routers and five regions, each with its own Triton or Ray Serve,
    and serves two models in two versions each. GPUs and distances are simulated, the rest is real.
    Ctrl-C stops everything.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return None
    return _run(name, **options)


@demo.command("up", epilog="\b\nExample:\n  fed demo up --engines triton=2,ray=1")
@click.option("--engines", default="", metavar="LIST", help="Regions by engine.")
@_NAME
def up(name: str, engines: str) -> int:
    """Start the demo: the same as `fed demo` alone."""
    return _run(name, engines=engines, check=False, check_seconds=0.0, check_rate=0.0)


def _run(name: str, *, engines: str, check: bool, check_seconds: float, check_rate: float) -> int:
    from federation.demo.main import Options, run
    from federation.demo.screen import Screen
    from federation.demo.story import StoryOptions

    story = StoryOptions(seconds=check_seconds, rate=check_rate) if check else None
    if check and name == "demo":
        name = f"check-{os.getpid()}"  # it may run beside a demo
    return asyncio.run(run(Options(name=name, engines=engines, check=story), Screen()))


@demo.command("install", epilog="\b\nExample:\n  fed demo install")
def install() -> None:
    """Fetch what the demo needs (about 100 MB); afterwards it runs without a network."""
    import tempfile
    from pathlib import Path

    from federation.demo.models import build_packages
    from federation.demo.screen import Screen
    from federation.demo.triton_install import TritonUnavailable, ensure_triton

    screen = Screen()
    try:
        screen.step("Triton", str(ensure_triton(say=screen.note).root))
    except TritonUnavailable as error:
        screen.note(f"{error.sentence()} The demo will run on Ray Serve alone.")
    with tempfile.TemporaryDirectory() as folder:
        built = build_packages(None, Path(folder))
    screen.step("models", ", ".join(f"{model} v{version}" for model, version, _ in built))


@demo.command("kill", epilog="\b\nExample:\n  fed demo kill eu-west\n  fed demo kill router-us")
@click.argument("target")
@_NAME
def kill(target: str, name: str) -> None:
    """kill -9 a region (engine and agent), a router or the control plane."""
    _told("killed", name, "kill", target, f"It stays down until: fed demo restore {target}")


@demo.command("restore", epilog="\b\nExample:\n  fed demo restore eu-west")
@click.argument("target")
@_NAME
def restore(target: str, name: str) -> None:
    """Start again what `kill` has killed."""
    _told("starting", name, "restore", target, "Watch it come back with: fed get clusters --watch")


@demo.command("cut", epilog="\b\nExample:\n  fed demo cut ap-southeast")
@click.argument("region")
@_NAME
def cut(region: str, name: str) -> None:
    """Cut the network between all routers and a region."""
    _told("cut", name, "cut", region, f"It stays cut until: fed demo heal {region}")


@demo.command("heal", epilog="\b\nExample:\n  fed demo heal ap-southeast")
@click.argument("region")
@_NAME
def heal(region: str, name: str) -> None:
    """Mend the network to a region."""
    _told("joined again", name, "heal", region, "")


def _told(done: str, name: str, verb: str, target: str, hint: str) -> None:
    from federation.demo.control import ask

    answer = ask(name, verb, target)
    click.echo(f"{done}: {', '.join(answer['done'])}")
    if hint:
        click.echo(hint, err=True)


@demo.command("status", epilog="\b\nExample:\n  fed demo status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_NAME
def status(as_json: bool, name: str) -> None:  # noqa: FBT001 - click passes flags so
    """Show the processes and the network of the running demo."""
    from federation.demo.control import ask, read_state
    from federation.demo.screen import table_lines

    answer = ask(name, "status")
    if as_json:
        click.echo(json.dumps({**read_state(name), **answer}, indent=2))
        return
    rows = [
        [str(p[key]) for key in ("name", "state", "pid", "starts")] for p in answer["processes"]
    ]
    lanes = [
        [lane["lane"], "up" if lane["up"] else "cut", f"{lane['rtt_ms']:g} ms"]
        for lane in answer["lanes"]
    ]
    for line in table_lines(("PROCESS", "STATE", "PID", "STARTS"), rows):
        click.echo(line)
    click.echo()
    for line in table_lines(("NETWORK", "STATE", "RTT"), lanes):
        click.echo(line)


@demo.command("env", epilog='\b\nExample:\n  eval "$(fed demo env)"')
@_NAME
def env(name: str) -> None:
    """Print what a shell needs to speak with the running demo: its `fed` context and a key."""
    import shlex
    from pathlib import Path

    from federation.demo.control import read_state

    state = read_state(name)
    key = Path(state["inference_key"]).read_text("ascii")
    url = state["routers"][0]["url"]
    exports = {
        "FED_CONFIG": state["fed_config"],
        "FED_KEY": key,
        "FED_GRPC": url.partition("://")[2],  # for tritonclient.grpc: the same port as HTTP
        "OPENAI_API_KEY": key,
        "OPENAI_BASE_URL": f"{url}/v1",
    }
    for variable, value in exports.items():
        click.echo(f"export {variable}={shlex.quote(value)}")


@demo.command("down", epilog="\b\nExample:\n  fed demo down")
@_NAME
def down(name: str) -> None:
    """Stop the running demo; nothing is left behind."""
    from federation.demo.control import ask, read_state, wait_gone

    pid = int(read_state(name)["pid"])
    ask(name, "down")
    wait_gone(pid)
    click.echo("stopped")


@demo.command("load", epilog="\b\nExample:\n  fed demo load --rate 50 --duration 60")
@click.option(
    "--rate",
    default=50.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Requests a second, on average.",
)
@click.option(
    "--duration", default=0.0, type=click.FloatRange(min=0), help="Seconds; 0 = until Ctrl-C."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@_NAME
def load(rate: float, duration: float, as_json: bool, name: str) -> int:  # noqa: FBT001
    """Send load from clients on five continents; exit 1 if any request fails."""
    from federation.demo.control import read_state
    from federation.demo.load_run import LoadOptions, run_load
    from federation.demo.screen import Screen

    state = read_state(name)
    return asyncio.run(
        run_load(state, LoadOptions(rate=rate, duration_s=duration, as_json=as_json), Screen())
    )


@demo.command("rollout", epilog="\b\nExample:\n  fed demo rollout\n  fed demo rollout --fault slow")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    help="Only this bad version: slow, errors, load, crash or wrong.  [default: all; none = none]",
)
@click.option(
    "--rate",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Requests a second meanwhile.",
)
@click.option(
    "--bake",
    default=8.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Seconds that each step lasts at least.",
)
@_NAME
def rollout(faults: tuple[str, ...], rate: float, bake: float, name: str) -> int:
    """Roll a new version out region by region, then bad ones that are found out; exit 0 or 1."""
    from federation.demo.control import read_state
    from federation.demo.models import Fault
    from federation.demo.rollout_tour import TourOptions, run_tour
    from federation.demo.screen import Screen

    known = [str(fault) for fault in Fault]
    if strange := [fault for fault in faults if fault not in (*known, "none")]:
        raise click.BadParameter(f"{strange[0]!r} is not one of {', '.join(known)}, none.")
    wanted = tuple(Fault(fault) for fault in faults or known if fault != "none")
    options = TourOptions(faults=wanted, rate=rate, bake_s=bake)
    return asyncio.run(run_tour(read_state(name), options, Screen()))

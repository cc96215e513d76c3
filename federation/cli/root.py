"""The command `fed` itself: its table of commands, its help page, and the end of every error.

Input: argv. Output: the exit code; an error becomes one sentence with its remedy on stderr, and a
traceback only with --debug.
"""

import os
import sys
from collections.abc import Callable, Sequence
from types import TracebackType

import click

from federation.cli.exits import MEANING, ExitCode, exit_code
from federation.cli.lazy import LazyGroup
from federation.cli.session import Session, global_options
from federation.contract.errors import FederationError

_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], None]

COMMANDS = {
    "get": ("federation.cli.get:get", "List objects of a kind, or show one."),
    "describe": ("federation.cli.describe:describe", "Tell all about one object."),
    "top": ("federation.cli.top:top", "Show what is busy now: clusters, gpus, models."),
    "apply": ("federation.cli.apply:apply", "Create or change objects from YAML files."),
    "diff": ("federation.cli.apply:diff", "Show what `apply` would change."),
    "delete": ("federation.cli.delete:delete", "Delete an object."),
    "cluster": ("federation.cli.cluster:cluster", "Register, revoke, drain or remove clusters."),
    "router": ("federation.cli.router:router", "Register, accept, revoke or remove routers."),
    "ca": ("federation.cli.ca:ca", "Show and rotate the certificate authority."),
    "region": ("federation.cli.region:region", "Create and list regions."),
    "model": ("federation.cli.model:model", "Push, pull, compare and verify model versions."),
    "deploy": ("federation.cli.deploy:deploy", "Serve a model version in regions."),
    "rollout": ("federation.cli.rollout:rollout", "Replace versions region by region, or undo."),
    "plan": ("federation.cli.plan:plan", "Show what a deployment would change."),
    "prefetch": ("federation.cli.prefetch:prefetch", "Have a model version lie ready at clusters."),
    "tenant": ("federation.cli.tenant:tenant", "Create tenants and set their limits."),
    "route": ("federation.cli.route:route", "Explain where requests go, and why."),
    "dns": ("federation.cli.dns:dns", "Bring the routers into your DNS."),
    "doctor": ("federation.cli.doctor:doctor", "Find what is wrong, and what to do about it."),
    "events": ("federation.cli.events:events", "Show what happened."),
    "audit": ("federation.cli.audit:audit", "Show who changed what; verify that the log is whole."),
    "key": ("federation.cli.key:key", "Make, rotate and revoke keys."),
    "login": ("federation.cli.login:login", "Check a control plane and your token; keep both."),
    "logout": ("federation.cli.login:logout", "Forget a control plane and your token."),
    "whoami": ("federation.cli.login:whoami", "Show who you are and what you may do."),
    "config": ("federation.cli.config:config", "Choose the control plane to speak to."),
    "demo": ("federation.demo.commands:demo", "Run a whole federation on this machine."),
    "completion": ("federation.cli.completion:completion", "Print a shell completion script."),
    "version": ("federation.cli.version:version", "Show versions."),
}

_EPILOG = """\b
Example:
  fed get clusters
  fed model push ./filetype
  fed deploy filetype --regions eu-west,us-east --wait

\b
Exit codes:
""" + "\n".join(f"  {code.value:>3}  {words}" for code, words in MEANING.items())

fed = LazyGroup(
    "fed",
    COMMANDS,
    help="One inference endpoint over GPU clusters in many regions.\n\n"
    "The options below may stand behind any command, too.",
    epilog=_EPILOG,
)
fed.params += global_options(hidden=False)
fed.context_settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def start() -> int:
    """Run `fed` as a process: with its own argv, and no traceback whatever happens."""
    session = Session()
    sys.excepthook = _last_resort(session)
    return run(None, session)


def run(argv: Sequence[str] | None, session: Session) -> int:
    """Run `fed` with `argv` and return its exit code; with --debug, errors are raised."""
    try:
        result = fed.main(args=argv, prog_name="fed", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return ExitCode.OK
    except FederationError as error:
        if session.debug:
            raise
        from federation.cli.output import note  # heavier than what `fed --help` may import

        note(f"error: {error.sentence()}")
        return exit_code(error)
    return result if isinstance(result, int) else ExitCode.OK


def _last_resort(session: Session) -> _Hook:
    """Return what shows an exception that nobody expected: a mistake in fed itself."""

    def show(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if session.debug:
            sys.__excepthook__(kind, error, at)
            return
        click.echo(
            f"error: fed itself failed: {kind.__name__}: {error}. "
            "Run it again with --debug and report what it shows.",
            err=True,
        )

    return show


def _forget_stdout() -> None:
    """The reader of our output has gone: keep the interpreter from complaining at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

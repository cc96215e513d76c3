"""`fed doctor`: what is wrong, or would go wrong, and what to do about it.

Input: with --pre, addresses and paths of a machine that is to join; else a context of `fed` and
what the control plane tells. Output: one line per check, each failure with its remedy; exit 1 if
anything failed.
"""

from pathlib import Path
from typing import Any

import click

from federation.cli.checks.finding import Finding, Verdict, exit_code, failed, ok
from federation.cli.documents import look
from federation.cli.options import output_option
from federation.cli.output import Format, put_table, put_value
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import FederationError
from federation.runtime.clock import SystemClock

_PRE = {
    "--control-plane-url": "The control plane's https URL, as the join line has it.",
    "--control-plane": "HOST:PORT for streams, as the join line has it.",
    "--ca-pin": "The pin of the root, as the join line has it.",
    "--join-token-file": "The file with the join token.",
    "--state-dir": "Where the agent or router will keep its identity.",
    "--listen": "HOST:PORT where it will listen.",
    "--engine-url": "The serving engine's URL.",
}


def _pre_options(function: Any) -> Any:
    for flag, text in reversed(_PRE.items()):
        function = click.option(flag, default="", help=f"With --pre: {text}")(function)
    return function


@command("doctor")
@click.option("--pre", is_flag=True, help="Check this machine before it joins.")
@_pre_options
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
@pass_session
def doctor(session: Session, /, output: Format, *, pre: bool, **given: str) -> int:
    """Check clocks, certificates, permissions, reachability and versions.

    \b
    Example:
      fed doctor
      fed doctor --pre --control-plane-url https://cp.example:7480 --ca-pin sha256:... \\
        --engine-url http://127.0.0.1:8000
    """
    if not pre and (named := [f"--{n.replace('_', '-')}" for n, value in given.items() if value]):
        raise click.UsageError(f"{named[0]} only makes sense with --pre.")
    findings = _before_joining(given) if pre else _running(session)
    if output is Format.TABLE:
        rows = [(f.verdict.value, f.name, f.seen, f.remedy) for f in findings]
        put_table(("RESULT", "CHECK", "SEEN", "REMEDY"), rows)
    else:
        put_value([_plain(finding) for finding in findings], output)
    return exit_code(findings)


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.name,
        "result": finding.verdict.value,
        "seen": finding.seen,
        "remedy": finding.remedy,
    }


def _before_joining(given: dict[str, str]) -> list[Finding]:
    from federation.cli.checks import local
    from federation.cli.checks.contact import contact

    findings = [local.python_version()]
    if url := given["control_plane_url"]:
        now = SystemClock().utc()
        grpc, pin = given["control_plane"], given["ca_pin"]
        findings += contact(url, grpc=grpc, pin=pin, now=now)
    if path := given["join_token_file"]:
        findings.append(local.secret_file("join token", Path(path)))
    if path := given["state_dir"]:
        findings.append(local.state_directory(Path(path)))
    if address := given["listen"]:
        findings.append(local.port_free("listen", address))
    if url := given["engine_url"]:
        findings.append(local.engine(url, local.own_addresses()))
    return findings


def _running(session: Session) -> list[Finding]:
    from federation.cli.checks import fleet, local
    from federation.cli.checks.contact import clock_skew, told_at
    from federation.runtime.version import software_version

    clock, settings = SystemClock(), session.settings()
    findings = [local.python_version()]
    for name, path in (("config", settings.config.value), ("key file", settings.token_file.value)):
        if path and path != "-" and Path(path).exists():
            findings.append(local.secret_file(name, Path(path)))
    try:
        with session.client(timeout_s=5.0) as client:
            who = client.get("api", "v1", "whoami")
            findings.append(ok("control plane", f"{client.endpoint}, you are {who.get('name')}"))
            skew = clock_skew(told_at(client.endpoint), clock.utc())
            findings.append(skew)
            listed = {
                plural: client.get("api", "v1", plural)["items"]
                for plural in ("clusters", "routers", "keys")
            }
            control_plane = str(look(client.get("openapi.json"), "info", "version") or "unknown")
            findings += fleet.clusters(listed["clusters"])
            findings += fleet.routers(listed["routers"])
            findings.append(fleet.versions(software_version(), control_plane, listed["routers"]))
            findings.append(fleet.keys(listed["keys"], clock.utc()))
            findings.append(fleet.roots(client.get("api", "v1", "ca"), clock.utc()))
    except FederationError as error:
        findings.append(failed("control plane", error.message, error.hint))
    return sorted(findings, key=lambda finding: list(Verdict).index(finding.verdict), reverse=True)

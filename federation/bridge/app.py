"""The bridge, put together: custom resources on one side, the control plane on the other.

Input: settings. Output: a running process until SIGTERM or SIGINT. It keeps nothing on disk: what
it must not forget stands in the status of the custom resources. Two that run at once do no harm, as
each writes only what is still as it read it.
"""

import asyncio
import contextlib
import logging
import random
import sys
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry

from federation.bridge.admin import Admin
from federation.bridge.control_plane import ControlPlane
from federation.bridge.following import Following
from federation.bridge.policy.pacing import Patience
from federation.bridge.reconciler import Reconciler
from federation.bridge.settings import Settings, check
from federation.cli.settings import check_endpoint
from federation.contract.errors import FederationError, Invalid
from federation.kube.access import KubeAccess, pod_namespace
from federation.kube.api import KubeApi
from federation.kube.watching import WatchPatience
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.clock import SystemClock
from federation.runtime.config import load_settings
from federation.runtime.supervise import Supervisor, stop_on_signals
from federation.runtime.telemetry import set_up_logging

log = logging.getLogger(__name__)

PROG = "fed-bridge"


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns 0 stopped as asked, 1 could not run, 2 bad settings."""
    try:
        settings = load_settings(Settings, prog=PROG, argv=argv)
        check(settings)
        set_up_logging("bridge", level=settings.log_level)
        asyncio.run(_until_signalled(settings))
    except FederationError as error:
        sys.stderr.write(f"{PROG}: {error.sentence()}\n")
        return 2 if isinstance(error, Invalid) else 1
    return 0


async def _until_signalled(settings: Settings) -> None:
    with stop_on_signals() as stop:
        await serve(settings, stop=stop)


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event,
    patience: Patience | None = None,
    watch_patience: WatchPatience | None = None,
    on_listening: Callable[[str], None] = lambda _: None,
) -> None:
    """Run a bridge until `stop` is set; raises FederationError if it cannot start."""
    clock, dice, supervisor = SystemClock(), random.Random(), Supervisor()  # noqa: S311  # spreads waits
    api = KubeApi(KubeAccess(kubeconfig=settings.kubeconfig, context=settings.kube_context))
    plane = ControlPlane(
        check_endpoint(settings.endpoint),
        token_file=settings.token_file,
        ca_file=settings.ca_file,
    )
    reconciler = Reconciler(
        api=api,
        control_plane=plane,
        clock=clock,
        dice=dice,
        patience=patience or Patience(poll_s=settings.poll_s),
    )
    namespace = settings.namespace or pod_namespace()
    following = Following(
        api, namespace, reconciler.shelf, clock=clock, dice=dice, patience=watch_patience
    )
    following.on_change = reconciler.wake
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(plane.close)
        stack.push_async_callback(api.close)
        admin = Admin(reconciler, following, CollectorRegistry(), supervisor.restarts)
        runner = make_runner(admin.application(), ServerLimits(shutdown_s=1.0))
        stack.push_async_callback(runner.cleanup)
        host, port = await listen(runner, settings.admin_listen)
        stack.push_async_callback(supervisor.stop)
        supervisor.start("following", following.run)
        supervisor.start("reconciler", reconciler.run)
        log.info("following %s for %s, admin on %s:%d", namespace, plane, host, port)
        on_listening(f"{host}:{port}")
        await stop.wait()
        log.info("stopping")

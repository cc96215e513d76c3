"""`fed rollout`: models go from one version to the next, region by region.

Input: the words of the command line. Output: the commands of the modules beside this one.
"""

from federation.cli.lazy import LazyGroup

_AT = "federation.cli.rollout"

rollout = LazyGroup(
    "rollout",
    {
        "start": (f"{_AT}_start:start", "Bring a model to another version, wave by wave."),
        "get": (f"{_AT}_show:get", "Show a rollout as a live tree, or list all."),
        "status": (f"{_AT}_show:status", "Tell where a rollout stands, also by exit code."),
        "pause": (f"{_AT}_steer:pause", "Stop a rollout where it is."),
        "resume": (f"{_AT}_steer:resume", "Let a paused rollout go on."),
        "promote": (f"{_AT}_steer:promote", "Skip what is left of a step, or of all."),
        "approve": (f"{_AT}_steer:approve", "Let the wave begin that waits for it."),
        "abort": (f"{_AT}_steer:abort", "Send all traffic back to the old version."),
        "undo": (f"{_AT}_start:undo", "Bring a model back to a version that it had."),
        "history": (f"{_AT}_show:history", "Show what was rolled out, by whom, and why."),
    },
    help="Bring models from one version to the next, region by region, and back if they do worse.",
    epilog="\b\nExample:\n"
    '  fed rollout start shakespeare --to 2 --waves "eu-west; us-east,us-west; *"\n'
    "  fed rollout get shakespeare -w\n"
    "  fed rollout abort shakespeare",
)

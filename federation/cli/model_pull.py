"""`fed model pull`: fetch a version into a directory, and check it.

Input: MODEL or MODEL@VERSION, and a directory. Output: the files of the version in that directory.
"""

from pathlib import Path

import click

from federation.cli.cells import size
from federation.cli.output import note, put
from federation.cli.pull import pull_version, read_version
from federation.cli.session import Session, command, pass_session
from federation.contract.names import check_model_name
from federation.runtime.clock import SystemClock


def split_version(text: str) -> tuple[str, str]:
    """Return model and version of MODEL or MODEL@VERSION; "0" = the newest one."""
    model, _, version = text.partition("@")
    return check_model_name(model), version or "0"


@command("pull")
@click.argument("version", metavar="MODEL[@VERSION]")
@click.argument("directory", type=click.Path(path_type=Path))
@pass_session
def pull(session: Session, version: str, directory: Path) -> None:
    """Fetch a version into a directory, and check it.

    VERSION is a number or an alias, by default the newest. Its signed release is checked before
    anything is fetched, and every chunk before it is written; DIRECTORY appears when it is whole. A
    pull that was interrupted goes on when it is repeated.

    \b
    Example:
      fed model pull filetype ./filetype
      fed model pull filetype@champion ./filetype
    """
    model, wanted = split_version(version)
    target = directory.absolute()
    with session.client() as client:
        found = read_version(client, model, wanted, SystemClock().utc().timestamp())
        came = pull_version(client, found, target, endpoint=client.endpoint, roots=session.roots())
    put(
        f"model/{model} version {found.version} (digest {found.release.manifest[:12]}) is in "
        f"{directory}"
    )
    files = len(found.manifest.files)
    note(f"{size(found.manifest.size)} in {files} files; {size(came)} were fetched")

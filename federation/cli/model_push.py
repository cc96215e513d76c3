"""`fed model push` and `fed model keygen`.

Input: a directory or a URI of a package; a key of its owner. Output: chunks, and a version with its
signed release, at the control plane; what was new, on stdout.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import click

from federation.chunking.delta import bases
from federation.cli.cells import size
from federation.cli.client import ApiClient
from federation.cli.documents import Json
from federation.cli.old_version import OldVersion
from federation.cli.options import DurationType, output_option
from federation.cli.output import Format, note, put, put_value
from federation.cli.packages import Package
from federation.cli.push import Sent, missing_chunks, register, send_chunks
from federation.cli.push_delta import Delta, DeltaChoice, delta_options
from federation.cli.push_source import SourceChoice, opened, source_options
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import AlreadyExists, Invalid
from federation.contract.manifest import manifest_digest
from federation.contract.release import Envelope, Release, parse_envelope, release_of, seal
from federation.runtime.clock import SystemClock
from federation.sources.base import Wanted
from federation.trust.signing import new_signing_key, public_key, sign_envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the owner wants the release to say; all of it may be left out."""

    key_file: Path | None
    expires_in_s: float | None
    floor_version: int | None

    def release(self, client: ApiClient, package: Package, source: str) -> Envelope | None:
        """Return the release, signed if there is a key; None = the control plane makes it."""
        if self.key_file is None and self.expires_in_s is None and self.floor_version is None:
            return None
        now = SystemClock().utc().timestamp()
        model = package.manifest.model
        envelope = seal(
            Release(
                model=model,
                manifest=manifest_digest(package.manifest),
                size=package.manifest.size,
                sequence=int(now * 1000),
                floor=_sequence(client, model, self.floor_version) if self.floor_version else 0,
                created=int(now),
                expires=int(now + self.expires_in_s) if self.expires_in_s else 0,
                source=source,
            )
        )
        return sign_envelope(_read_key(self.key_file), envelope) if self.key_file else envelope


@command("push")
@click.argument("source")
@click.option("--name", help="Push it under this name instead of the one in model.yaml.")
@click.option(
    "--sign-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Sign the release with this key, made by `fed model keygen`.",
)
@click.option(
    "--expires-in", type=DurationType(), help="Let clusters fetch it only so long, like 90d."
)
@click.option(
    "--floor",
    type=click.IntRange(min=1),
    metavar="VERSION",
    help="Forbid clusters that see this release to load versions from before VERSION.",
)
@click.option("--no-compress", is_flag=True, help="Send all bytes as they are.")
@click.option("--dry-run", is_flag=True, help="Tell what would be sent, and send nothing.")
@delta_options
@source_options
@output_option()
@pass_session
def push(
    session: Session,
    source: str,
    name: str | None,
    sign_key: Path | None,
    expires_in: float | None,
    floor: int | None,
    no_compress: bool,
    dry_run: bool,
    package_file: Path | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    delta_from: str,
    delta_dir: Path | None,
    output: Format,
) -> None:
    """Push a package as the next version of its model. The same content again is the same version.

    SOURCE is a directory with model.yaml and the files of the model, or one of: file:///directory,
    s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, hf://org/model@revision,
    oci://registry/repository:tag (or @sha256:...), mlflow://name@alias (or /version). What moves,
    like a branch or a tag, is pinned to what it is now, which is shown. Only chunks that the
    control plane lacks are sent; a push that was interrupted goes on when it is repeated.

    With --delta-from, chunks of changed tensors are stored as differences to that version wherever
    this is much shorter. Clusters that have it fetch only those; others fetch its chunks as well.
    Unless --delta-dir has them, the old chunks are fetched to compare.

    \b
    Example:
      fed model push ./filetype
      fed model push ./filetype --name filetype-test --dry-run
      fed model push ./filetype --sign-key owner.pem --expires-in 90d
      fed model push ./llama-tuned --delta-from @champion --delta-dir ./llama
      fed model push hf://org/model@main --package model.yaml --include '*.safetensors'
    """
    if delta_dir is not None and not delta_from:
        raise click.UsageError("--delta-dir needs --delta-from: the version that it holds.")
    if delta_from and no_compress:
        raise click.UsageError("--delta-from and --no-compress exclude each other.")
    claim = Claim(key_file=sign_key, expires_in_s=expires_in, floor_version=floor)
    if sign_key is not None:
        public_key(_read_key(sign_key))  # tell now, not after an hour of reading
    wanted = Wanted(include=include, exclude=exclude)
    choice = SourceChoice(uri=source, package_file=package_file, wanted=wanted)
    delta = Delta(session, DeltaChoice(delta_from, delta_dir))
    with (
        opened(choice, name, delta.like) as (package, came_from),
        session.client() as client,
        delta.opened() as old,
    ):
        if dry_run:
            _tell_dry_run(client, package, old, output)
            return
        sent = send_chunks(client, package, compress=not no_compress, old=old)
        release = claim.release(client, package, came_from)
        answer = register(client, package, came_from, release)
    _tell(answer, package, sent, output)
    if old is not None and output is Format.TABLE:
        _tell_differences(sent, old.fetched)


def _tell_differences(sent: Sent, fetched: int) -> None:
    note(
        f"{sent.differences} of {sent.chunks} chunks were sent as differences"
        + (f"; {size(fetched)} were fetched to compare" if fetched else "")
    )


def _tell_dry_run(
    client: ApiClient, package: Package, old: OldVersion | None, output: Format
) -> None:
    missing = missing_chunks(client, package)
    manifest = package.manifest
    chunks, total = len(missing), sum(missing.values())
    comparable = bases(old.manifest, manifest).keys() & missing.keys() if old else set()
    told: Json = {
        "model": manifest.model,
        "digest": manifest_digest(manifest),
        "size": manifest.size,
        "files": len(manifest.files),
        "missingChunks": chunks,
        "missingBytes": total,
        "comparableBytes": sum(missing[digest] for digest in comparable),
        "carriesCode": package.carries_code,
    }
    if output in (Format.JSON, Format.YAML):
        put_value(told, output)
        return
    code = ", carries code" if package.carries_code else ""
    put(
        f"model/{manifest.model} (digest {told['digest'][:12]}) would send {size(total)} of "
        f"{size(manifest.size)} in {chunks} chunks{code} (dry run)"
    )
    if old is not None:
        put(f"{size(told['comparableBytes'])} of them can be compared with the old version")


def _tell(answer: Json, package: Package, sent: Sent, output: Format) -> None:
    manifest = package.manifest
    if output in (Format.JSON, Format.YAML):
        counts = {"size": manifest.size, "files": len(manifest.files)}
        new = {"newChunks": sent.chunks, "newBytes": sent.raw, "sentBytes": sent.wire}
        new["differences"] = sent.differences
        put_value({**answer, **counts, **new}, output)
        return
    if output is Format.NAME:
        put(f"model/{answer['model']}")
        return
    outcome = "created" if answer.get("created") else "exists"
    digest = str(answer["digest"])[:12]
    put(f"model/{answer['model']} version {answer['version']} (digest {digest}) {outcome}")
    note(
        f"{size(manifest.size)} in {len(manifest.files)} files; {size(sent.raw)} were new"
        + (f", sent as {size(sent.wire)}" if sent.chunks else "")
        + (". It carries code: only clusters that allow code load it" * package.carries_code)
    )


def _sequence(client: ApiClient, model: str, version: int) -> int:
    """Return the sequence of an earlier version's release."""
    path = ("api", "v1", "models", model, "versions", str(version), "release")
    return release_of(parse_envelope(client.fetch(*path))).sequence


def _read_key(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or "it is no PEM"
        raise Invalid(
            f"cannot read the key in {path}: {words}.", hint="Make one with: fed model keygen FILE"
        ) from None


@command("keygen")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@pass_session
def keygen(_session: Session, file: Path) -> None:
    """Make a key for signing releases; prints its public half.

    The key is written to FILE, which only you can read and which must not exist. Put the public
    half under `publishers` in the spec of a model: then its versions must be signed with the key.

    \b
    Example:
      fed model keygen owner.pem
      fed model push ./filetype --sign-key owner.pem
    """
    private = new_signing_key()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise AlreadyExists(f"{file} exists already.", hint="Choose another name.") from None
    except OSError as error:
        raise Invalid(f"cannot write {file}: {error.strerror}.") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as target:
        target.write(private)
    put(public_key(private))

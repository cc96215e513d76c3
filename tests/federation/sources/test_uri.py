"""What may be written as a source, and what is said otherwise."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.sources.uri import SCHEMES, SourceUri, parse_source, redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/models/x", SourceUri("file", "/models/x")),
        ("file:///models/a%20b", SourceUri("file", "/models/a b")),
        ("s3://bucket/a/b/", SourceUri("s3", "bucket/a/b")),
        ("S3://bucket", SourceUri("s3", "bucket")),
        ("gs://bucket/a", SourceUri("gs", "bucket/a")),
        ("az://container/a", SourceUri("az", "container/a")),
        ("hf://gpt2@main", SourceUri("hf", "gpt2@main")),
        ("hf://org/model@refs/pr/1", SourceUri("hf", "org/model@refs/pr/1")),
        ("mlflow://ft@champion", SourceUri("mlflow", "ft@champion")),
        ("oci://localhost:5000/a/b:1", SourceUri("oci", "localhost:5000/a/b:1")),
    ],
)
def test_good_sources(text: str, expected: SourceUri) -> None:
    assert parse_source(text) == expected


def test_a_directory_may_be_relative_and_may_look_like_a_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:name").mkdir()
    assert parse_source("x") == SourceUri("file", str(tmp_path / "x"))
    assert parse_source("odd:name") == SourceUri("file", str(tmp_path / "odd:name"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hf:org/model", "hf://org/model"),
        ("s3:/bucket/x", "s3://bucket/x"),
        ("huggingface://org/model", "hf://org/model"),
        ("docker://reg.io/a:1", "oci://reg.io/a:1"),
        ("models:/name/3", "mlflow://name/3"),
        ("mlflo://name/3", "mlflow://name/3"),
        ("https://huggingface.co/org/model", "hf://org/model?"),
        ("https://huggingface.co/org/model/tree/v2/sub", "hf://org/model@v2"),
        ("https://b.s3.eu-west-1.amazonaws.com/p/x", "s3://b/p/x"),
        ("https://storage.googleapis.com/b/p", "gs://b/p"),
        ("https://example.org/x.onnx", "download the files"),
        ("ftp://x/y", "s3://"),
        ("file://models/x", "file:///models/x"),
        ("file:models", "file:///absolute/path"),
        ("", "Write a directory"),
    ],
)
def test_near_misses_are_offered(text: str, meant: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_source(text)
    assert meant in caught.value.sentence()


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIA:s3cret@bucket/p",
        "s3://AKIA:s3c/ret@bucket/p",
        "gs://s3cret@bucket/p",
        "s3://bucket/p?X-Amz-Signature=s3cret",
        "s3://bucket/p#s3cret",
        "hf://ann:s3cret@org/model",
        "oci://ann:s3cret@reg.io/a:1",
        "oci://s3cret@reg.io/a:1",
        "mlflow://ann:s3cret@host/n",
        "https://ann:s3cret@huggingface.co/org/model?token=s3cret",
        "s3:AKIA:s3cret@bucket/p",
        "docker://ann:s3cret@reg.io/x?y=s3cret",
    ],
)
def test_secrets_are_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_source(text)
    assert "s3cret" not in caught.value.sentence()


@given(st.text(max_size=40) | st.sampled_from(SCHEMES).map(lambda s: f"{s}://@@//:?#"))
@example("s3://[")
@example("http://[")
@example("file://[")
def test_any_text_is_a_source_or_refused(text: str) -> None:
    try:
        parsed = parse_source(text)
    except Invalid as error:
        good = bool(error.hint)
    else:
        good = parsed.scheme == "file" or redacted(parsed.body) == parsed.body
    assert good

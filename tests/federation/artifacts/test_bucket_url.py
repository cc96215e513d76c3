import pytest

from federation.artifacts.bucket_url import BucketUrl, parse_bucket_url
from federation.contract.errors import Invalid


def test_a_url_says_where_the_bucket_is() -> None:
    url = "s3://models/a/b/?endpoint=https://s3.example.org:9000&region=eu-central-1&signed=no"
    assert parse_bucket_url(url) == BucketUrl(
        scheme="s3", bucket="models", prefix="a/b", endpoint="https://s3.example.org:9000",
        region="eu-central-1", signed=False,
    )  # fmt: skip
    assert parse_bucket_url("gs://models") == BucketUrl(scheme="gs", bucket="models")
    azure = parse_bucket_url("az://models/x?account=me")
    assert (azure.account, azure.prefix, str(azure)) == ("me", "x", "az://models/x")


@pytest.mark.parametrize(
    "text",
    [
        "", "models", "/models", "http://models", "s3:models", "s3://", "s3://ab", "s3://Models",
        "s3://models/../x", "s3://models/a//b", "s3://models/.hidden", "s3://models/a b",
        "s3://models#part", "s3://models?endpoint", "s3://models?endpoint=",
        "s3://models?endpoint=example.org", "s3://models?endpoint=ftp://example.org",
        "s3://models?endpoint=http://u:p@example.org", "s3://models?endpoint=http://x:99999",
        "s3://models?endpoint=http://", "s3://models?region=a&region=b", "s3://models?bucket=x",
        "s3://models?access_key_id=AKIA", "gs://models?region=eu", "s3://models?signed=maybe",
        "az://models?region=x", "s3://[::1", "s3://models?endpoint=https://x/?y=1",
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_words(text: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse_bucket_url(text)
    assert "s3://" in raised.value.hint


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(Invalid) as raised:
        parse_bucket_url("s3://AKIA:very-secret@models")
    assert "very-secret" not in raised.value.sentence()

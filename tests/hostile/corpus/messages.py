"""Messages of gRPC that name two models, or would swallow the name that a gateway puts last."""

# What of them may run, as the engine calls it: the last name that the router saw in front.
NAMING_TWICE = {
    "two names in front": (b"\x0a\x06digits\x0a\x07private", "private--v1"),
    "the second name at the end": (b"\x0a\x06digits\x1a\x01i\x0a\x07private", "digits--v2"),
    "a version at the end": (b"\x0a\x06digits\x1a\x01i\x12\x011", "digits--v2"),
    "an over-long tag": (b"\x0a\x06digits\x8a\x00\x07private", "digits--v2"),
    "an over-long length": (b"\x0a\x86\x80\x00digits", "digits--v2"),
}
SWALLOWING = {
    "the end is swallowed by a field": b"\x0a\x06digits\x1a\x01i\x0a\x07private\x3a\x10",
    "the end is swallowed by a tag": b"\x0a\x06digits\x1a\x01i\x0a\x07private\x8a",
    "a group that is not closed": b"\x0a\x06digits\x1a\x01i\x0a\x07private\x4b",
    "the name is cut": b"\x0a\x20digits",
}

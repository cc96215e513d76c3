"""What hostile clients send, byte for byte, and what may come of it.

Each payload is aimed at one door: a router or a gateway that serves the tensor model `m` and the
text model `text`, both in version 1. Repeated fields in protobuf bodies belong here once gRPC
passes through the router.
"""

from tests.hostile.corpus.bodies import BODIES
from tests.hostile.corpus.framing import FRAMING
from tests.hostile.corpus.heads import HEADS
from tests.hostile.corpus.paths import PATHS
from tests.hostile.corpus.payload import Payload

CORPUS: tuple[Payload, ...] = (*PATHS, *HEADS, *FRAMING, *BODIES)

__all__ = ["BODIES", "CORPUS", "FRAMING", "HEADS", "PATHS", "Payload"]

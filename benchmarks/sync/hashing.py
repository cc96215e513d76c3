"""Hash files, as `b3sum` would with one thread, and make them durable:
python -m benchmarks.sync.hashing PATH..."""

import mmap
import os
import sys
from pathlib import Path

from blake3 import blake3

for name in sys.argv[1:]:
    with Path(name).open("r+b") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        blake3(view).hexdigest()
        os.fsync(file.fileno())

"""An application that knows only NVIDIA's gRPC client: `python use_triton_grpc.py HOST:PORT`.

Input: the address of a router, a key in FED_KEY. Output: what was seen, as one JSON line; or one
sentence and exit code 1.
"""

import json
import os
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc.auth import BasicAuth


def main(address: str) -> None:
    """Ask for metadata, then infer: pinned and default version."""
    client = triton.InferenceServerClient(address)
    client.register_plugin(BasicAuth("key", os.environ["FED_KEY"]))
    must(client.is_server_live(), "the server is live")
    must(client.is_server_ready(), "the server is ready")
    must(client.is_model_ready("filetype"), "the model is ready")
    seen = {}
    for version, wanted in (("", "2"), ("1", "1"), ("2", "2")):
        spec = client.get_model_metadata("filetype", version).inputs[0]
        kind = np.float32 if spec.datatype == "FP32" else np.int32
        data = np.full((1, spec.shape[-1]), 256, kind)
        data[0, :12] = list(b"import sys\n\n")
        given = triton.InferInput("bytes", data.shape, spec.datatype)
        given.set_data_from_numpy(data)
        answer = client.infer("filetype", [given], version, client_timeout=20)
        told = answer.get_response()
        must(told.model_name == "filetype", f"the answer names filetype: {told.model_name}")
        must(told.model_version == wanted, f"the answer is of version {wanted}")
        seen[version or "default"] = list(answer.as_numpy("target_label").shape)
    client.close()
    print(json.dumps(seen))


def must(true: object, what: str) -> None:
    """End with one sentence unless something is true."""
    if not true:
        raise SystemExit(f"expected that {what}")


if __name__ == "__main__":
    main(sys.argv[1])

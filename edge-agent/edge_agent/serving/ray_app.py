"""A model package as a Ray Serve application: the one door to ray.

Input: Ray imports `edge_agent.serving.ray_app:build` from an archive that holds this package and,
beside it, the folder `model`. Output: an Application of one deployment, which answers with App.
"""

from collections.abc import Mapping
from pathlib import Path

from ray import serve
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from edge_agent.serving.app import App
from edge_agent.serving.models import load_model
from edge_agent.serving.package import read_package
from edge_agent.serving.warm import warm

DEPLOYMENT = "Model"
MODEL_FOLDER = "model"  # in the archive


@serve.deployment(name=DEPLOYMENT)
class ModelDeployment:
    """One replica."""

    def __init__(self) -> None:
        directory = Path(__file__).parents[2] / MODEL_FOLDER
        package = read_package(directory)
        model = load_model(directory, package)
        warm(model, package)
        self._app = App(package, model)

    async def __call__(self, request: Request) -> Response:
        """Answer one request; when the client goes away, Ray cancels it and so the model stops."""
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        reply = await self._app.handle(request.method, path, request.headers, await request.body())
        if isinstance(reply.body, bytes):
            return Response(reply.body, reply.status, dict(reply.headers))
        return StreamingResponse(reply.body, reply.status, dict(reply.headers))


def build(_args: Mapping[str, str]) -> serve.Application:
    """Return the application; everything it needs to know lies in the archive."""
    application: serve.Application = ModelDeployment.bind()  # type: ignore[attr-defined]  # by the decorator
    return application

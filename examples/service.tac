"""
A web service on Twisted that sends a notification for each request::

    PORT=8080 SIMULATOR=simulator twistd -noy examples/service.tac
    curl --data "Dinner is ready" http://localhost:8080/$TOKEN
"""

import json
import os
from pathlib import Path

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from txapns import Accepted, APNSService, Certificate, Gateway, Notification
from txapns.errors import APNSError, LocalError

STATE = Path(os.environ["SIMULATOR"])


class Push(Resource):
    """Send the text of a request to the device whose token is its path."""

    def __init__(self, service):
        super().__init__()
        self.service = service
        ports = json.loads((STATE / "simulator.json").read_text())
        trust_root = (STATE / "ca.pem").read_text()
        self.gateway = Gateway.http2("localhost", ports["http2"], trust_root=trust_root)  # or "production"

    def getChild(self, name, request):
        return self

    def render_POST(self, request):
        Deferred.fromCoroutine(self.push(request))
        return NOT_DONE_YET

    async def push(self, request):
        """Send it, and answer with the outcome."""
        pem = (STATE / "client.pem").read_text()  # yours comes from a database row or a secret store
        client = self.service.client(Certificate.from_pem(pem), self.gateway)
        notification = Notification(alert=request.content.read().decode())
        try:
            outcome = await client.send_one(notification, request.prepath[0].decode())
        except APNSError as error:
            status, said = 400 if isinstance(error, LocalError) else 503, type(error).__name__
        else:
            accepted = isinstance(outcome, Accepted)
            status, said = (200, "accepted") if accepted else (outcome.status, outcome.reason)
        request.setResponseCode(status)
        request.write(f"{said}\n".encode())
        request.finish()


application = Application("push")
service = APNSService(reactor)
service.setServiceParent(application)
endpoint = TCP4ServerEndpoint(reactor, int(os.environ["PORT"]), interface="127.0.0.1")
StreamServerEndpointService(endpoint, Site(Push(service))).setServiceParent(application)

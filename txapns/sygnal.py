"""
A pushkin for Sygnal, the Matrix push gateway: it sends with an :class:`~txapns.APNSClient` instead of aioapns.

It extends Sygnal's own pushkin for APNs. Options, payloads, the shortening of payloads, metrics and the limit of
requests are Sygnal's; only the request to Apple is made here. The client resends what may be resent, under the same
``apns-id``, so the loop of Sygnal's pushkin, which would choose a new one, has nothing to repeat.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentracing import Span, tags
from sygnal import apnspushkin
from sygnal.exceptions import NotificationDispatchException, PushkinSetupException
from sygnal.notifications import Device
from sygnal.utils import NotificationLoggerAdapter

from txapns._pushkeys import token_of
from txapns.client import APNSClient
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.errors import APNSError, InvalidToken, redact
from txapns.gateway import Gateway
from txapns.notification import Notification
from txapns.result import Accepted, Rejection

__all__ = ["ApnsPushkin"]

if TYPE_CHECKING:
    from sygnal.sygnal import Sygnal

#: Synapse waits 60 seconds for an answer. This is the limit for connecting and for each answer of Apple's, in seconds.
TIMEOUT = 20.0
#: How often a notification is sent again after 429, 500 or 503.
RETRIES = 2
#: With 1,000 requests in flight on each, two are enough for any sensible ``inflight_request_limit``.
CONNECTIONS = 2


class ApnsPushkin(apnspushkin.ApnsPushkin):
    """
    Sends the notifications of one of Sygnal's apps.

    It takes all options of Sygnal's own pushkin for APNs, and two more: ``gateway``, which replaces ``platform`` and is
    text as for :class:`~txapns.APNSClient`, and ``trust_root``, the path of a PEM file with the authorities to trust.

    :param name: the app id.
    :param sygnal: the Sygnal that loads it: it runs on its reactor, and connects through its proxy.
    :param config: the app's options.
    :raises PushkinSetupException: an option is missing or wrong, or the credential cannot be used.
    """

    UNDERSTOOD_CONFIG_FIELDS = apnspushkin.ApnsPushkin.UNDERSTOOD_CONFIG_FIELDS | {"gateway", "trust_root"}

    def __init__(self, name: str, sygnal: Sygnal, config: dict[str, Any]) -> None:
        super().__init__(name, sygnal, config)  # checks the options
        del self.apns_client  # never connected
        try:
            self._client = self._make_client()
        except (APNSError, OSError) as error:
            raise PushkinSetupException(f"{name}: {error}") from error
        sygnal.reactor.addSystemEventTrigger("before", "shutdown", self._client.close)

    def _make_client(self) -> APNSClient:
        trust_root = self.get_config("trust_root", str)
        gateway = Gateway.parse(
            self.get_config("gateway", str) or ("sandbox" if self.use_sandbox else "production"),
            trust_root=trust_root and Path(trust_root).read_bytes(),
            proxy=self.sygnal.config.get("proxy"),
        )
        return APNSClient(
            self.sygnal.reactor,
            self._read_credential(),
            gateway,
            topic=None if self.get_config("certfile", str) else self.get_config("topic", str),
            timeout=TIMEOUT,
            retries=RETRIES,
            max_connections=CONNECTIONS,
        )

    def _read_credential(self) -> Credential:
        certfile = self.get_config("certfile", str)
        if certfile:
            return Certificate.from_file(certfile)
        return ProviderToken.from_file(
            self.get_config("keyfile", str), self.get_config("key_id", str), self.get_config("team_id", str)
        )

    async def _dispatch_request(
        self,
        log: NotificationLoggerAdapter,
        span: Span,
        device: Device,
        shaved_payload: dict[str, Any],
        prio: int,
        notif_id: str,
    ) -> list[str]:
        """
        Send one notification.

        :param log: Sygnal's logger for this request.
        :param span: the span that traces the request.
        :param device: the device.
        :param shaved_payload: the payload, short enough.
        :param prio: the priority.
        :param notif_id: the apns-id.
        :returns: the pushkey, if Synapse is to remove the pusher.
        :raises NotificationDispatchException: it was not accepted for any other reason. Synapse tries again.
        """
        span.set_tag("apns_id", notif_id)
        encoded = self.get_config("convert_device_token_to_hex", bool, True)
        token: str | bytes = (token_of(device.pushkey) or b"") if encoded else device.pushkey
        notification = Notification(
            payload=shaved_payload,
            push_type=self.push_type and self.push_type.value,
            priority=prio if prio < 10 else None,  # Apple assumes 10, but for background pushes, where that is an error
            apns_id=notif_id,
        )
        try:
            with apnspushkin.ACTIVE_REQUESTS_GAUGE.track_inprogress(), apnspushkin.SEND_TIME_HISTOGRAM.time():
                outcome = await self._client.send_one(notification, token)
        except InvalidToken:
            return [device.pushkey]  # Apple would say BadDeviceToken
        except APNSError as error:
            raise NotificationDispatchException(str(error)) from error
        status = 200 if isinstance(outcome, Accepted) else outcome.status
        apnspushkin.RESPONSE_STATUS_CODES_COUNTER.labels(pushkin=self.name, code=status).inc()
        span.set_tag(tags.HTTP_STATUS_CODE, status)
        return [] if isinstance(outcome, Accepted) else self._rejected(outcome, span, device, log)

    def _rejected(self, rejection: Rejection, span: Span, device: Device, log: NotificationLoggerAdapter) -> list[str]:
        error = f"{rejection.status} {rejection.reason}"
        span.set_tag("apns_reason", rejection.reason)
        if (rejection.status, rejection.reason) not in self.TOKEN_ERRORS:
            raise NotificationDispatchException(error)
        log.info("The token %s of %s was rejected: %s", redact(device.pushkey), self.name, error)
        return [device.pushkey]

"""
The provider API: one HTTP/2 request, one stream, for each notification, broadcast, or question about channels.

A request is a HEADERS frame and a DATA frame. The answer is a HEADERS frame and, unless it is 200, a DATA frame::

    :method        POST                        :status   410
    :scheme        https                       apns-id   8a6f…
    :authority     api.push.apple.com
    :path          /3/device/<token in hex>    {"reason": "Unregistered", "timestamp": 1700000000000}
    authorization  bearer <JWT>
    apns-topic     com.example.app

    {"aps": {"alert": "Hello"}}

Channels are also managed by GET and DELETE, which have no DATA. Their answers may be 201 or 204 as well, or 200 with
the requested list as DATA.

HTTP/2 itself (framing, HPACK, flow control) is done by libnghttp2, through ngh2; no other package here uses it. This
one adds what sending notifications needs and no HTTP/2 library has:

*Room.* A request needs a free stream below the peer's MAX_CONCURRENT_STREAMS and bytes in its connection window
(65,535 at Apple: some fifteen payloads of 4 KB). :meth:`RequestSender.room` tells both. A connection authenticated
by a provider token has room for a single request until one has been answered; only then does Apple announce the full
limit.

*The outcome of each request.* Every stream ends in exactly one of four ways, and :class:`Round` sorts what a read
brought by them: *accepted* (any answer from 200 to 299), *rejected* (any other answer), *refused* (REFUSED_STREAM, or
above the last stream of a GOAWAY: HTTP/2 promises that it was not processed, so it is safe to send again) and *reset*
(anything else: it may have been processed). When the connection dies, :meth:`RequestSender.abandon` makes the same
distinction: a request whose body did not leave completely cannot have been processed. (Whether a request without a
body has left is not known, so it counts as sent.)

Streams are numbered 1, 3, 5 …; the caller's items are kept by stream and handed back unread.

Source: "Sending notification requests to APNs" and "Handling notification responses from APNs"; RFC 9113 §5.1.2,
§6.8 and §8.7.
"""

from txapns.wire.requests.receiver import FrameBudget, RequestReceiver
from txapns.wire.requests.sender import RequestSender
from txapns.wire.requests.values import (
    ENHANCE_YOUR_CALM,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Answer,
    GoAway,
    Headers,
    Request,
    Round,
    reason_of,
)

__all__ = [
    "ENHANCE_YOUR_CALM",
    "PROTOCOL_ERROR",
    "REFUSED_STREAM",
    "Answer",
    "FrameBudget",
    "GoAway",
    "Headers",
    "Request",
    "RequestReceiver",
    "RequestSender",
    "Round",
    "reason_of",
]

"""
The face of Apple's provider API: HTTP/2, ``POST /3/device/<token>``, and of broadcasts and their channels. A client
made for Apple's servers connects to it and notices no difference.

::

    :path          /3/device/<token>           :status  410
    authorization  bearer <key or JWT>         apns-id  8a6f…
    apns-topic     com.example.chess
                                               {"reason": "Unregistered", "timestamp": 1700000000000}
    {"aps": {"alert": "Hello"}}

:mod:`~txapns.daemon.faces.apple.face` makes the connections, :mod:`~txapns.daemon.faces.apple.connection` speaks HTTP/2
on each, :mod:`~txapns.daemon.faces.apple.authentication` finds out which apps its caller may send for,
:mod:`~txapns.daemon.faces.apple.requests` reads requests, :mod:`~txapns.daemon.faces.apple.broadcasts` those of
broadcasts, and :mod:`~txapns.daemon.faces.apple.responses` chooses the answers.
:mod:`~txapns.daemon.faces.apple.channels` passes requests about channels on to Apple, in both modes.

In *relay* mode the answer is Apple's own. If Apple has not answered in time, it is 503 ServiceUnavailable, but the
notification stays in the queue; a client that sends it again makes a second one. In *queue* mode the answer is 200 as
soon as the notification is on the disk, and 410 for a token that Apple has reported as dead before. The daemon cannot
know whether the app has been registered on the device again since then; the timestamp of the answer is for that, as
with Apple.

What the daemon refuses before it accepts a notification, it refuses in Apple's words. It refuses only what it cannot
send on. A topic that does not exist, or a priority of 7, is for Apple to reject.
"""

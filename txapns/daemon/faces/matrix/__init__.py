"""
The face for Matrix: the push gateway API, version 1, over HTTP/1.1.

A homeserver tells a push gateway which devices are to be notified of an event, or of how much is unread, and the
gateway answers which of their pushkeys are dead::

    POST /_matrix/push/v1/notify
    {"notification": {"event_id": …, "room_id": …, "counts": {…}, "devices": [{"app_id": …, "pushkey": …, "data": …}]}}

    {"rejected": [pushkey, …]}

:mod:`~txapns.daemon.faces.matrix.requests` reads a request, :mod:`~txapns.daemon.faces.matrix.payloads` and
:mod:`~txapns.daemon.faces.matrix.pushes` make what is sent to its devices, and
:mod:`~txapns.daemon.faces.matrix.face` decides what is answered, and when.

Source: Matrix Specification, "Push Gateway API". The payloads are those of Sygnal, which apps are written for.
"""

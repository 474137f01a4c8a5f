"""
Clients and servers of others, as their users have them, against ours.

``make interop`` installs the clients into environments of their own and runs the tests: ``test_nghttpd.py`` has our
client and their server, ``test_http2_clients.py`` and ``test_old_clients.py`` have their clients and our simulator.
Each client has a driver, a program that does with it what its documentation says. It reads a line of JSON from its
standard input, and prints one. After a minute a driver gives up.

Drivers of clients of the HTTP/2 provider API read

- ``host``, ``http2``: where the server is;
- ``ca``, ``certificate``, ``p8``, ``key_id``, ``team_id``: the credentials, the first three of them files;
- ``mode``: ``"certificate"`` or ``"token"``;
- ``tokens``, each with an identifier, ``topic``, ``alert``, ``badge``, ``sound``, ``push_type``, ``priority``,
  ``expiration``, ``time_to_live``, ``collapse_id``.

They print ``{"accepted": [token, …], "refused": [[token, status, reason, timestamp], …]}``.

Those of old clients of the binary protocol read

- ``host``, ``binary``, ``feedback``: where the servers are;
- ``ca``, ``certificate``, ``pkcs12``, ``passphrase``: files with the credentials;
- ``task``: ``"send"`` or ``"feedback"``;
- to send: ``tokens``, ``alert``, ``badge``, ``sound``, ``expiration``, ``priority``, and a client's own ``mode`` or
  ``library``.

They print for ``"send"`` what the client told its user was refused, ``{"refused": [[token, status], …]}``, and for
``"feedback"`` ``{"feedback": [[token, time], …]}``. A client that does not know by itself when it is done sends until
the standard input ends, which is when the servers have all that should come.
"""

"""
Old clients of the binary protocol, as their users have them, against the simulator.

``make interop`` installs them into an environment of their own and runs ``test_old_clients.py``. Each client has a
driver, a program that does with it what its documentation says. It reads a line of JSON from its standard input:

- ``host``, ``binary``, ``feedback``: where the servers are;
- ``ca``, ``certificate``, ``pkcs12``, ``passphrase``: files with the credentials;
- ``task``: ``"send"`` or ``"feedback"``;
- to send: ``tokens``, ``alert``, ``badge``, ``sound``, ``expiration``, ``priority``, and a client's own ``mode`` or
  ``library``.

It prints a line of JSON: for ``"send"`` what the client told its user was refused, ``{"refused": [[token, status],
…]}``, and for ``"feedback"`` ``{"feedback": [[token, time], …]}``. A client that does not know by itself when it is
done sends until the standard input ends, which is when the servers have all that should come. After a minute a driver
gives up.
"""

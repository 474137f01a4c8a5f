"""Requests over HTTP/2 from a blocking socket: what any client must do at least."""

import socket

from txapns.wire.requests import RequestSender

__all__ = ["TOKEN", "connect", "sender"]

TOKEN = "00" * 32


def connect(host, port):
    """Open a connection."""
    connection = socket.create_connection((host, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def sender(connection, fields, body):
    """Make a function that sends a notification to one device, and waits for the response."""
    requests = RequestSender(b"localhost")
    head = requests.head(b"POST")

    def exchange(settled):
        connection.sendall(requests.data_to_send())
        while not settled():
            requests.receive(connection.recv(65536))
            if data := requests.data_to_send():
                connection.sendall(data)

    def send():
        requests.send(TOKEN, head, f"/3/device/{TOKEN}".encode(), fields, body)
        exchange(lambda: not len(requests))

    exchange(lambda: requests.room()[0] > 0)
    return send

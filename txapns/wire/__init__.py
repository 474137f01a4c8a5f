"""
The protocols as plain values: bytes in, events out, no I/O.

Nothing in this package imports Twisted, so each module can be read, tested and reused without a network. Client and
server role of a protocol are side by side, and check each other.
"""

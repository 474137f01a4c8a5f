"""
The protocols as plain values: bytes in, events out, no input or output of their own.

Nothing in this package imports Twisted, so each module can be read, tested and reused apart from any network. Where
a protocol has two sides, client and server role stand in the same module and check each other.
"""

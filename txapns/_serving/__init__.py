"""
How the daemon and the simulator serve: guarded connections, with limits on memory and time, and HTTP/1.1 on top of
them.
"""

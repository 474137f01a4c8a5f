"""
The simulator's inbox over HTTP: a control API in JSON, and a page that shows the same.

It is for the developer at this machine and for tests in any language. It asks for no key, so it listens on loopback
unless it is told otherwise, and requests that a browser sends for pages of other sites are refused.
"""

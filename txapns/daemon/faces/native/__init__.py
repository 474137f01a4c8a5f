"""
The native face: the daemon's own API, JSON over HTTP/1.1.

``face`` authenticates callers and routes requests; ``notifications``, ``queue`` and ``apps`` implement the operations;
``json_api`` reads requests and writes answers; ``openapi`` has the table of operations and makes the document from it.
"""

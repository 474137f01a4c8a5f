"""What browsers may do with our pages: nothing that the pages themselves do not need."""

from __future__ import annotations

__all__ = ["FORMS", "SECURITY"]

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
#: Header fields for every response: a page needs nothing from elsewhere, and no other page may embed or read it.
SECURITY = (
    (b"Content-Security-Policy", _POLICY),
    (b"Cache-Control", b"no-store"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
)
#: The same for pages with forms, which are sent to the server that the page is from, and to no other. With a policy of
#: no-referrer, a browser would not say either that a form is from a page of that server.
FORMS = tuple(
    [
        (name, value.replace(b"form-action 'none'", b"form-action 'self'").replace(b"no-referrer", b"same-origin"))
        for name, value in SECURITY
    ]
)

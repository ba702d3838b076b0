"""Security headers of pages and of the API."""

from __future__ import annotations

NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
NO_STORE = {"Cache-Control": "no-store", **NO_SNIFF}
OWN_FILES = (
    "script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " require-trusted-types-for 'script'"
)
"""The sources of a page that loads scripts, styles and images from its own origin, and has none
inline."""


def page_headers(
    sources: str, *, form_action: str = "'none'", referrer: str = "no-referrer"
) -> dict[str, str]:
    """Return the headers of a page that may load only `sources` (CSP Level 3 directives)."""
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; {sources}; base-uri 'none'; form-action {form_action};"
            " frame-ancestors 'none'"
        ),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": referrer,
        "X-Frame-Options": "DENY",
        **NO_SNIFF,
    }

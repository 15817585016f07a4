"""Certificates of an authority that lives as long as the tests run."""

import ssl

import trustme

AUTHORITY = trustme.CA()


def certified(name: str = "127.0.0.1") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Give a server's context of this name, and a client's that trusts the authority."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(name).configure_cert(server)
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)
    return server, client

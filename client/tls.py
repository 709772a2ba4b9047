"""What a user says about encryption, as the libraries want it."""

from __future__ import annotations

import ssl

from client.errors import TlsError
from client.settings import Tls


def tls_context(tls: Tls | None) -> ssl.SSLContext:
    """A client's TLS as the standard library wants it. Raises TlsError if a file is no PEM file of its kind."""
    tls = tls or Tls()
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except ssl.SSLError as error:
        raise TlsError(f"a file of Settings.tls cannot be used ({error.reason}); give PEM files") from error
    return context

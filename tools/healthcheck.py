"""Whether the server of this container answers: exit code 0, or 1 with a word on why not.

Asks `/healthz` of this machine, as PORT and FREYA_TLS_CERT say. It asks itself, so the certificate, which is
made out to another name, is not looked at.
"""

from __future__ import annotations

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

_TIMEOUT_S = 3.0


def main() -> int:
    """The exit code."""
    connection = _connection("127.0.0.1", int(os.environ.get("PORT") or 8080))
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        sys.stderr.write(f"no answer: {error}\n")
        return 1
    finally:
        connection.close()
    return 0 if status == 200 else 1


def _connection(host: str, port: int) -> HTTPConnection:
    if not os.environ.get("FREYA_TLS_CERT"):
        return HTTPConnection(host, port, timeout=_TIMEOUT_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)


if __name__ == "__main__":
    sys.exit(main())

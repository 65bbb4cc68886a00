"""A client certificate out of a Secret, as the files that OpenSSL wants: in memory only, gone afterwards. Called by the sources."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError

CERTIFICATE, KEY = "tls.crt", "tls.key"


@contextmanager
def client_certificate(data: Mapping[str, bytes]) -> Iterator[tuple[str, str] | None]:
    """(certificate, key) as names of files; None when the Secret has none. Raises CourierError when it has only one of them."""
    found = [data.get(CERTIFICATE), data.get(KEY)]
    if not any(found):
        yield None
        return
    if not all(found):
        raise CourierError(Reason.AUTHENTICATION_FAILED, "the Secret has only one of tls.crt and tls.key")
    with ExitStack() as stack:
        names = []
        for content in found:
            descriptor = os.memfd_create("secret", os.MFD_CLOEXEC)
            stack.callback(os.close, descriptor)
            os.write(descriptor, content or b"")
            names.append(f"/proc/self/fd/{descriptor}")
        yield names[0], names[1]

"""What is served over HTTP? The exposition, a page for people, their JSON, and the ends that load balancers ask.

aiohttp makes two TLS contexts for its client at import, with every certificate authority of the machine: 2 MB and some
40 ms. They are made without authorities here: who asks somebody over TLS brings a context of their own, which is not
concerned; without one, nobody is trusted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_AUTHORITIES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}


@contextmanager
def _without_authorities() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _AUTHORITIES}
    os.environ.update(_AUTHORITIES)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _without_authorities():
    import aiohttp  # noqa: F401  here first, so that every other import finds it

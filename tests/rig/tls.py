# SPDX-License-Identifier: Apache-2.0
"""HTTPS for tests: an identity, and a client that counts."""
import pathlib
import subprocess

from . import SLOW, python

LOAD = pathlib.Path(__file__).resolve().parents[1] / "tools" / "tls_load.py"


def identity(directory):
    """A certificate of 127.0.0.1 that signs itself: the environment of services that show it, and of clients that trust it."""
    cert, key = pathlib.Path(directory) / "cert.pem", pathlib.Path(directory) / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"], check=True, capture_output=True)
    return {"CERT": str(cert), "KEY": str(key),
            **{name: str(cert) for name in ("CA", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")}}


def load(who, target, requests, connections, path, again=False, timeout=120):
    """Exactly `requests` over `connections`, or with `again` a connection for each; "%" in path is the number."""
    r = subprocess.run([python(), LOAD, str(target), str(requests), str(connections), path], capture_output=True, text=True,
                       timeout=timeout * SLOW, env={**who, **({"AGAIN": "1"} if again else {})})
    assert r.returncode == 0, f"the load itself failed: {r.stderr}"

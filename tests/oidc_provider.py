"""An OpenID provider of another make, as a process behind TLS.

    python tests/oidc_provider.py CERTIFICATE KEY EMAIL...

Owns its people: each EMAIL signs in by its name, and is verified unless it begins with `new.`. It
prints its issuer once it listens.
"""

import sys
import warnings

# the provider's own libraries warn of each other's age
warnings.simplefilter("ignore")

from oidc_provider_mock import User, app  # noqa: E402 - after the filter
from werkzeug.serving import make_server  # noqa: E402 - as above


def main() -> None:
    certificate, key, *emails = sys.argv[1:]
    people = [
        User(sub=email, claims={"email": email, "email_verified": not email.startswith("new.")}) for email in emails
    ]
    provider = app(require_nonce=True, user_claims=people)
    server = make_server("localhost", 0, provider, threaded=True, ssl_context=(certificate, key))
    sys.stdout.write(f"issuer https://localhost:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()

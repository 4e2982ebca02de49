"""What an OpenID provider says: its addresses and keys, and who has signed in.

Owns the checks of an id_token (OpenID Connect Core 1.0, 3.1.3.7) and of where requests go. It must
not know sessions or pages. Nothing is asked of the provider before somebody signs in, so a console
starts while the provider is away.
"""

import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode, urlsplit

import httpx
import msgspec
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, KeySet

from mesh.errors import MeshError
from mesh.ports import Clock
from mesh.web_server import LOOPBACK

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a key of the provider's alone: never `none`, nor one by a secret that we share."""

LEEWAY_S: Final = 60  # that clocks may differ
_KEPT_MS: Final = 3_600_000  # what the provider says of itself
_AGAIN_MS: Final = 60_000  # an unknown key may be new; it is looked for this often at the most
_TIMEOUT_S: Final = 10.0
_MOST_BYTES: Final = 1_000_000

Claim = Literal["email", "sub"]


class OidcConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`claim`: what of an id_token is the person's name in the mesh. `url`: the console's own.

    `secret` empty: the provider knows this console as a public client.
    """

    issuer: str
    client_id: str
    secret: str
    claim: Claim
    url: str

    @property
    def callback(self) -> str:
        return f"{self.url.rstrip('/')}/login/callback"


class SignInFailed(MeshError):
    """Nobody is signed in. The message says why, and holds no secret."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What a browser keeps until it comes back. `verifier`: of PKCE. `target`: the page wanted."""

    state: str
    nonce: str
    verifier: str
    target: str

    @property
    def challenge(self) -> str:
        return urlsafe_b64encode(sha256(self.verifier.encode()).digest()).decode().rstrip("=")


def new_attempt(target: str) -> Attempt:
    return Attempt(
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        verifier=secrets.token_urlsafe(48),
        target=target,
    )


class Provider:
    """The provider that the configuration names."""

    def __init__(self, config: OidcConfig, clock: Clock, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.config = config
        self._clock, self._transport = clock, transport
        self._about: dict[str, Any] = {}
        self._about_at_ms = 0
        self._keys = KeySet([])
        self._keys_at_ms: int | None = None

    async def sign_in_url(self, attempt: Attempt) -> str:
        """Where a browser signs in."""
        place = _place(await self._known(), "authorization_endpoint")
        asked = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": self.config.callback,
            "scope": "openid email" if self.config.claim == "email" else "openid",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return f"{place}{'&' if '?' in place else '?'}{urlencode(asked)}"

    async def person(self, code: str, attempt: Attempt) -> str:
        """Who has signed in, by the code that their browser has brought. Raises `SignInFailed`."""
        known = await self._known()
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.config.callback,
            "code_verifier": attempt.verifier,
        }
        headers = {"accept": "application/json"}
        if not self.config.secret:
            body["client_id"] = self.config.client_id
        elif "client_secret_basic" in known.get("token_endpoint_auth_methods_supported", ["client_secret_basic"]):
            headers["authorization"] = _basic(self.config)
        else:
            body |= {"client_id": self.config.client_id, "client_secret": self.config.secret}
        found = await self._ask("POST", _place(known, "token_endpoint"), data=body, headers=headers)
        token = found.get("id_token")
        if not isinstance(token, str):
            raise SignInFailed("the provider gave no id_token")
        return self._person_in(await self._claims(token, attempt.nonce))

    # The id_token ---------------------------------------------------------------------------------

    async def _claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        """The claims of a token, after all that must hold of it was checked."""
        try:
            claims = (await self._decoded(token)).claims
            jwt.JWTClaimsRegistry(
                now=self._clock.now_ms() // 1_000,
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self.config.issuer},
                aud={"essential": True, "value": self.config.client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise SignInFailed(f"the provider's id_token does not hold: {error}") from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else self.config.client_id) != self.config.client_id:
            raise SignInFailed("the provider's id_token is for another client")
        return claims

    async def _decoded(self, token: str) -> jwt.Token:
        await self._read_keys()
        try:
            return jwt.decode(token, self._keys, algorithms=ALGORITHMS)
        except (InvalidKeyIdError, ValueError):
            # the provider may have a new key
            await self._read_keys(again=True)
            return jwt.decode(token, self._keys, algorithms=ALGORITHMS)

    def _person_in(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self.config.claim)
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise SignInFailed(f"the provider's id_token has no {self.config.claim}")
        # anybody can write any address into an account; the provider must have checked whose it is
        if self.config.claim == "email" and claims.get("email_verified") not in (True, "true"):
            raise SignInFailed(f"the provider has not verified that {name} is yours")
        return name.strip()

    # The provider ---------------------------------------------------------------------------------

    async def _known(self) -> Mapping[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery 1.0)."""
        now_ms = self._clock.now_ms()
        if not self._about or now_ms - self._about_at_ms > _KEPT_MS:
            place = f"{self.config.issuer.rstrip('/')}/.well-known/openid-configuration"
            found = await self._ask("GET", place)
            if found.get("issuer") != self.config.issuer:
                raise SignInFailed(
                    f"the provider calls itself {found.get('issuer')!r}, and MESH_CONSOLE_OIDC_ISSUER says "
                    f"{self.config.issuer!r}"
                )
            self._about, self._about_at_ms = found, now_ms
        return self._about

    async def _read_keys(self, *, again: bool = False) -> None:
        at_ms, now_ms = self._keys_at_ms, self._clock.now_ms()
        if at_ms is not None and now_ms - at_ms <= (_AGAIN_MS if again else _KEPT_MS):
            return
        found = await self._ask("GET", _place(await self._known(), "jwks_uri"))
        # also where the answer is no good: it is not asked for each sign-in
        self._keys_at_ms = now_ms
        self._keys = _key_set(found.get("keys"))

    async def _ask(self, method: str, place: str, **more: Any) -> dict[str, Any]:
        host = urlsplit(place).hostname
        try:
            async with httpx.AsyncClient(transport=self._transport, timeout=_TIMEOUT_S) as client:
                found = await client.request(method, place, **more)
            value = found.json() if len(found.content) <= _MOST_BYTES else None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SignInFailed(f"the provider at {host} does not answer: {error or type(error).__name__}") from error
        except ValueError as error:
            raise SignInFailed(f"the provider at {host} answers {found.status_code}, and no JSON") from error
        if not isinstance(value, dict):
            raise SignInFailed(f"the provider at {host} answers {found.status_code}, and no object")
        if not found.is_success:
            raise SignInFailed(f"the provider at {host} answers {found.status_code}: {str(value.get('error'))[:100]}")
        return value


def is_protected(url: str) -> bool:
    """Whether nobody on the way can read or change what goes there."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _place(known: Mapping[str, Any], name: str) -> str:
    place = known.get(name)
    if not isinstance(place, str) or not is_protected(place):
        raise SignInFailed(f"the provider's {name} is {place!r}, which is no https address")
    return place


def _basic(config: OidcConfig) -> str:
    # each part is encoded as in a form (RFC 6749, 2.3.1)
    pair = f"{quote(config.client_id, safe='')}:{quote(config.secret, safe='')}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def _key_set(found: Any) -> KeySet:
    """The keys that sign. One that this version does not know keeps no other from being used."""
    keys = []
    for one in found if isinstance(found, list) else []:
        if isinstance(one, dict) and one.get("use", "sig") == "sig" and one.get("kty") != "oct":
            try:
                keys.append(JWKRegistry.import_key(one))
            except (JoseError, ValueError, TypeError):
                continue
    return KeySet(keys)

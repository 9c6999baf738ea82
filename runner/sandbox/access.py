"""Who may see a run: the holder of its token, and a browser that was let in once.

The token is taken from the Authorization header only, never from an address, where
histories and logs would keep it. A browser gets in with a ticket: a code that the holder
of the token asks for, good for one use within a minute. It becomes a cookie.
"""

from __future__ import annotations

import hmac
import secrets
import time
from hashlib import sha256
from typing import TYPE_CHECKING

from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User

if TYPE_CHECKING:
    from jupyter_server.base.handlers import JupyterHandler
    from tornado.web import RequestHandler

TICKET_SECONDS = 60.0


class TicketIdentityProvider(IdentityProvider):
    """Knows the token as the user `runner`, and the live page's cookie as the user `viewer`.

    Everybody else is nobody. `ServerApp.identity_provider_class` takes it; there is no
    login form.
    """

    login_available = False
    logout_available = False

    def get_token(self, handler: RequestHandler) -> str | None:
        """Take the token from the Authorization header, and from nowhere else."""
        match = self.auth_header_pat.match(handler.request.headers.get("Authorization", ""))
        return match.group(2) if match else None

    def get_user(self, handler: RequestHandler) -> User | None:
        """Tell who sends this request; None for nobody we know."""
        if not self.token:
            return None
        if _same(self.get_token(handler), str(self.token)):
            handler._token_authenticated = True  # type: ignore[attr-defined]
            return User("runner")
        if _same(handler.get_cookie(self.get_cookie_name(handler)), self._cookie(handler)):
            return User("viewer")
        return None

    def get_cookie_name(self, handler: RequestHandler) -> str:
        """Name the cookie by run, because browsers share cookies between ports."""
        return f"runner-{handler.settings['runner'].run_id}"

    def set_login_cookie(self, handler: RequestHandler, user: User) -> None:
        """Let this browser in until it is closed."""
        del user  # whoever had a ticket is a viewer
        handler.set_cookie(
            self.get_cookie_name(handler),
            self._cookie(handler),
            path=handler.settings["base_url"],
            httponly=True,
            samesite="Strict",
            secure=handler.request.protocol == "https",
        )

    def issue_ticket(self) -> str:
        """Make a code that lets one browser in, good for TICKET_SECONDS."""
        now = time.monotonic()
        code = secrets.token_urlsafe(24)
        self._tickets = {key: end for key, end in self._tickets.items() if end > now}
        self._tickets[_digest(code)] = now + TICKET_SECONDS
        return code

    def redeem_ticket(self, code: str) -> bool:
        """Tell whether the code was good; from now on it is not."""
        return self._tickets.pop(_digest(code), 0.0) > time.monotonic()

    _tickets: dict[str, float] = {}  # noqa: RUF012  # replaced, never changed, by issue_ticket

    def _cookie(self, handler: RequestHandler) -> str:
        """Follows from the token, so it outlives a restart of the server and needs no store."""
        about = f"live page of {handler.settings['runner'].run_id}"
        return hmac.new(str(self.token).encode(), about.encode(), sha256).hexdigest()


class LookOnAuthorizer(Authorizer):
    """The token may do anything, the cookie may only look on.

    `ServerApp.authorizer_class` takes it; it holds for all of Jupyter's own addresses, and
    so for a JupyterLab in the image.
    """

    def is_authorized(
        self, handler: JupyterHandler, user: User, action: str, resource: str
    ) -> bool:
        """Tell whether the request may go on."""
        del user, resource
        return handler.token_authenticated or action == "read"


def _same(given: str | None, expected: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), expected.encode())


def _digest(code: str) -> str:
    return sha256(code.encode()).hexdigest()

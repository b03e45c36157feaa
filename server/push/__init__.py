"""From sessions to sockets and back: the WebSocket server.

    listener -> entrance -> connection -> dispatch -> methods       a client comes in and asks
    session  -> fanout   -> connection                              a feed changes

`Gateway` is all of it; it is made with a `GatewaySetup` and listens where a `Listener` says.
"""

from __future__ import annotations

from server.push.gateway import Gateway, GatewaySetup
from server.push.listening import Listener
from server.push.options import PushOptions

__all__ = ["Gateway", "GatewaySetup", "Listener", "PushOptions"]

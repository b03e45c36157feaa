"""The knobs of the push side, with their defaults. Settings are mapped onto them elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from protocol.transport import DEFAULT_HEARTBEAT_MS, HEARTBEAT_GRACE_MS, MAX_MESSAGE_BYTES
from server.push.native import SendAll

__all__ = ["PushOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """Seconds unless the name says otherwise."""

    server: str = "freya-push"
    """What `connection.welcome` calls the server (its name and version)."""

    origins: frozenset[str] = frozenset()
    """Origins let in beside those whose host is the `Host` of the request."""

    # Before a connection
    first_byte_timeout_s: float = 5.0
    handshake_timeout_s: float = 10.0
    max_head_bytes: int = 16 * 1024
    keep_alive_s: float = 15.0
    max_requests_per_keep_alive: int = 100
    accepts_per_s: float = 0.0
    """Upgrades begun a second, past which they are put off with 503; 0: no bound."""
    proxy_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Peers that must open with a PROXY protocol header, which names the client's own address."""

    # How many
    max_connections: int = 100_000
    max_connections_per_user: int = 32
    max_connections_per_address: int = 0
    """0: no bound. Counts only addresses that a PROXY header named, or of a listener declared public."""
    max_message_bytes: int = MAX_MESSAGE_BYTES
    """Of one message that comes in, inflated; past it the connection closes with 1009."""
    max_subscriptions: int = 64
    max_concurrent_requests: int = 16
    max_waiting_replies: int = 64
    requests_per_s: float = 50.0
    request_burst: int = 100
    frames_per_s: float = 500.0
    frame_burst: int = 2_000
    """Frames of any kind, fragments and pings too: past that the connection closes with 4429."""
    publishes_per_s: float = 200.0
    publish_burst: int = 2_000
    """Feeds that one publisher (a token's user) may write to, over all its connections here."""
    max_refusals: int = 100
    """Requests refused as too many, one after another, after which the connection closes with 4429."""
    max_strikes: int = 20
    """Broken messages, one after another, after which the connection closes with 4400."""
    max_item_count: int = 2_000
    """Named in the welcome's limits; the engine holds it."""

    # A connection's life
    heartbeat_s: float = DEFAULT_HEARTBEAT_MS / 1000
    heartbeat_grace_s: float = HEARTBEAT_GRACE_MS / 1000
    stall_s: float = 900.0
    close_timeout_s: float = 5.0
    request_timeout_s: float = 10.0
    message_timeout_s: float = 60.0
    """From the first byte of a message to its last."""
    expiry_grace_s: float = 5.0
    """How long requests that run at the token's end may go on."""
    resume_wait_s: float = 1.0
    background_s: float = 600.0
    max_background_s: float = 1800.0
    ack_every_s: float = 5.0
    max_age_s: float = 0.0
    """Connections older than this are told to reconnect; 0: never."""
    replace_over_s: float = 5.0
    """A connection past its age is closed at a random moment within this time."""

    # Writing
    pushes_at_once: int = 1000
    """Sockets that one feed's change is written to before the loop gets its turn: about 5 us each."""
    cohorts_from: int = 8
    """A feed with so many subscribers keeps those together who stand at one place. With fewer, as nearly all
    feeds have, that would save nothing worth its memory."""
    send_all: SendAll | None = None
    """The loop in C, where it is built and wanted; see `native`."""
    write_high_bytes: int = 32 * 1024
    write_low_bytes: int = 8 * 1024
    unsent_low_bytes: int = 64 * 1024
    """How much the kernel may hold unsent of one socket before we conflate instead of writing more."""
    deflate: bool = True

    # Draining
    drain_delay_s: float = 5.0
    drain_s: float = 20.0
    reconnect_cost_s: float = 0.0005
    """What one reconnect costs the replicas that take it; paces the closing of many."""

"""gRPC's settings, each with its reason. Times are in milliseconds here, as gRPC wants them.

Learned by measuring: `keepalive_timeout_ms` alone does nothing, the ping timeout (60 s by default) wins; ports are
shared silently unless so_reuseport is off; a reader that stalls is sent megabytes first unless the window's probing is
off; channels to one address share one connection, and one limit of streams, unless their pools are their own.
"""

from __future__ import annotations

Options = list[tuple[str, int]]

MAX_REQUEST_BYTES = 4 * 1024 * 1024
MAX_STREAMS = 1000
MAX_METADATA_BYTES = 8192

_KEEPALIVE: Options = [
    # A peer that is stopped or cut off is noticed within 10 + 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]

_CHANNEL: Options = [
    *_KEEPALIVE,
    # Retries are ours: gRPC does not know which writes may be repeated.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # This is also how long one attempt to connect may take: a TLS handshake on a busy machine needs its time.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # What the server sends is trusted; refusing the answer to a write would hide that it happened.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
]

WATCHFUL: Options = [
    # Where there is another server to go to, one that is stopped or cut off is noticed within 1 + 2 s. gRPC's own
    # threads answer, so one that is merely busy is not taken for gone.
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
]
"""For a client with several servers, after its other settings."""

UNARY_CHANNEL: Options = [*_CHANNEL]

WATCH_CHANNEL: Options = [
    *_CHANNEL,
    # Keeps the window small: 0.1 MB instead of 6 MB in flight to a reader that has stopped reading.
    ("grpc.http2.bdp_probe", 0),
]

PROBE_CHANNEL: Options = [
    # To a program that may be anything: asked once, at its own address, and what it says takes little memory.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 4096),
]

SERVER: Options = [
    *_KEEPALIVE,
    # More often than a watchful client asks; who asks more often than this is sent away.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    # On, a second master would bind the same port and take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
]

MAX_CONCURRENT_CALLS = 30_000
"""More are refused at once with RESOURCE_EXHAUSTED, instead of waiting in silence for their deadlines. It is room for
the streams that 5,000 agents keep open (a watch, heartbeats, writes), twice."""

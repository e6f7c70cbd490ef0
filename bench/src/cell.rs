//! The words of a run: which mode, which measure, which service of the backend; what one measurement gave.

use std::time::Duration;

/// What the router does with the TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It stays end to end.
    Passthrough,
    /// It ends in the router.
    Terminate,
}

impl Mode {
    pub(crate) const ALL: [Self; 2] = [Self::Passthrough, Self::Terminate];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
            Self::Terminate => "terminate",
        }
    }
}

/// What a backend does with a connection once it has read the client's first bytes. Each has a name of its own, so
/// that routers have something to route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Sends a few bytes and closes.
    Answer,
    /// Sends until the client closes.
    Download,
    /// Sends back what it gets.
    Echo,
    /// Says what a server says in a full TLS 1.3 handshake and to one request, and closes.
    Exchange,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Answer, Self::Download, Self::Echo, Self::Exchange];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Download => "download",
            Self::Echo => "echo",
            Self::Exchange => "exchange",
        }
    }

    /// The server name that leads to it.
    pub(crate) fn host(self, mode: Mode) -> String {
        format!("{}.{}.test", self.name(), mode.name())
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// New connections, many at a time, each with one short answer.
    Connections,
    /// The same, each with messages to and fro as in a full TLS 1.3 handshake and one request.
    Exchanges,
    /// One connection's download.
    Bulk,
    /// The downloads of [`MANY_BULK`] connections.
    BulkMany,
    /// Small messages to and fro on one established connection.
    PingPong,
    /// The same on [`MANY_PING_PONG`] connections.
    PingPongMany,
    /// From connect(2) to the first byte of the answer, one connection at a time.
    FirstByte,
}

impl Measure {
    pub(crate) const ALL: [Self; 7] = [
        Self::Connections,
        Self::Exchanges,
        Self::Bulk,
        Self::BulkMany,
        Self::PingPong,
        Self::PingPongMany,
        Self::FirstByte,
    ];

    /// Of sni-router beside its peers.
    pub(crate) const SIDE_BY_SIDE: [Self; 4] = [Self::Connections, Self::Bulk, Self::PingPong, Self::FirstByte];

    /// Of the data paths beside each other.
    pub(crate) const DATA_PATHS: [Self; 7] = [
        Self::Bulk,
        Self::BulkMany,
        Self::PingPong,
        Self::PingPongMany,
        Self::FirstByte,
        Self::Connections,
        Self::Exchanges,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Exchanges => "exchanges",
            Self::Bulk => "bulk",
            Self::BulkMany => "bulk-many",
            Self::PingPong => "ping-pong",
            Self::PingPongMany => "ping-pong-many",
            Self::FirstByte => "first-byte",
        }
    }

    pub(crate) fn service(self) -> Service {
        match self {
            Self::Connections | Self::FirstByte => Service::Answer,
            Self::Exchanges => Service::Exchange,
            Self::Bulk | Self::BulkMany => Service::Download,
            Self::PingPong | Self::PingPongMany => Service::Echo,
        }
    }

    /// Whether what gets through is counted in gigabytes.
    pub(crate) fn is_bulk(self) -> bool {
        matches!(self, Self::Bulk | Self::BulkMany)
    }

    /// Whether time is what counts, not how much gets through.
    pub(crate) fn is_latency(self) -> bool {
        matches!(self, Self::PingPong | Self::PingPongMany | Self::FirstByte)
    }
}

/// What one measurement of one cell gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Connections, messages or gigabytes (10^9 bytes) per second.
    pub(crate) per_second: f64,
    /// Median and 99th percentile, where latency is what counts.
    pub(crate) latency: Option<Latency>,
    /// Processor time of the router's processes per connection, message or gigabyte.
    pub(crate) router_cpu: Option<Duration>,
    /// The same of the whole machine, clients and backends included.
    pub(crate) machine_cpu: Option<Duration>,
    /// Connections that failed.
    pub(crate) errors: u64,
}

/// Two percentiles of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// Connections of [`Measure::BulkMany`].
pub(crate) const MANY_BULK: usize = 8;
/// Connections of [`Measure::PingPongMany`].
pub(crate) const MANY_PING_PONG: usize = 64;

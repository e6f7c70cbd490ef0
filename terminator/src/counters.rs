//! What each worker counts, and the sum of all workers as the router asks for it.
//! Only its own worker writes a counter, so relaxed atomics never contend.

use std::array;
use std::iter::once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use connection::backends::BackendState;
use connection::handoff::{
    BackendStatus, CertificateStatus, ClientCertificateCount, ConnectionCount, HandshakeCount, Histogram,
    TerminatorStatus,
};
use connection::relay::Traffic;

use crate::backend_tls::BackendReason;
use crate::certificates::ServedCertificate;
use crate::failure::Reason;
use crate::outcome::Outcome;

/// The counters of one worker.
#[derive(Debug)]
pub(crate) struct WorkerCounters {
    handshakes_failed: [AtomicU64; Reason::ALL.len()],
    /// One per bound of [`HANDSHAKE_BOUNDS`], and one for what takes longer.
    handshakes_ok: [AtomicU64; HANDSHAKE_BOUNDS.len() + 1],
    handshake_micros: AtomicU64,
    clients_identified: AtomicU64,
    clients_without_certificate: AtomicU64,
    backend_handshakes_ok: AtomicU64,
    backend_handshakes_failed: [AtomicU64; BackendReason::ALL.len()],
    connections: [AtomicU64; Outcome::ALL.len()],
    active: AtomicU64,
    /// Bytes relayed, as they move.
    pub traffic: Traffic,
}

impl WorkerCounters {
    /// All zero.
    pub(crate) fn new() -> Self {
        Self {
            handshakes_failed: zeroes(),
            handshakes_ok: zeroes(),
            handshake_micros: AtomicU64::new(0),
            clients_identified: AtomicU64::new(0),
            clients_without_certificate: AtomicU64::new(0),
            backend_handshakes_ok: AtomicU64::new(0),
            backend_handshakes_failed: zeroes(),
            connections: zeroes(),
            active: AtomicU64::new(0),
            traffic: Traffic::default(),
        }
    }

    /// Counts a handshake that succeeded.
    pub(crate) fn handshake_ok(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = HANDSHAKE_BOUNDS.partition_point(|bound| *bound < seconds);
        add_one(self.handshakes_ok.get(bucket));
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.handshake_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Counts a handshake that failed.
    pub(crate) fn handshake_failed(&self, reason: Reason) {
        add_one(self.handshakes_failed.get(reason as usize));
    }

    /// Counts a client that was asked for a certificate, and whether it showed one.
    pub(crate) fn client_certificate(&self, shown: bool) {
        add_one(Some(if shown { &self.clients_identified } else { &self.clients_without_certificate }));
    }

    /// Counts a TLS handshake with a backend.
    pub(crate) fn backend_handshake(&self, failed: Option<BackendReason>) {
        add_one(match failed {
            None => Some(&self.backend_handshakes_ok),
            Some(reason) => self.backend_handshakes_failed.get(reason as usize),
        });
    }

    /// Counts the end of a connection.
    pub(crate) fn connection_ended(&self, outcome: Outcome) {
        add_one(self.connections.get(outcome as usize));
    }

    /// Counts one connection as active for as long as the guard lives.
    pub(crate) fn active(&self) -> ActiveGuard<'_> {
        self.active.fetch_add(1, Ordering::Relaxed);
        ActiveGuard(&self.active)
    }

    /// Connections that have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.connections.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Connections that this worker holds now.
    pub(crate) fn active_now(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }
}

/// One active connection.
#[derive(Debug)]
pub(crate) struct ActiveGuard<'c>(&'c AtomicU64);

impl Drop for ActiveGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The sum of all workers, in the router's words.
pub(crate) fn status<'w>(
    tenant: &str,
    certificates: &[ServedCertificate],
    backends: &[BackendState],
    workers: impl Iterator<Item = &'w WorkerCounters> + Clone,
) -> TerminatorStatus {
    let sum = |counter: &dyn Fn(&WorkerCounters) -> &AtomicU64| -> u64 {
        workers.clone().map(|worker| counter(worker).load(Ordering::Relaxed)).sum()
    };
    let sums = |counters: &dyn Fn(&WorkerCounters) -> &[AtomicU64]| -> Vec<u64> {
        let mut sums = Vec::new();
        for worker in workers.clone() {
            let counters = counters(worker);
            sums.resize(counters.len(), 0);
            for (sum, counter) in sums.iter_mut().zip(counters) {
                *sum += counter.load(Ordering::Relaxed);
            }
        }
        sums
    };

    let failed = sums(&|worker| &worker.handshakes_failed);
    let succeeded = sums(&|worker| &worker.handshakes_ok);
    let backends_failed = sums(&|worker| &worker.backend_handshakes_failed);
    let ended = sums(&|worker| &worker.connections);
    let failures = || Reason::ALL.into_iter().zip(failed.iter().copied());

    let ok = |count| HandshakeCount { outcome: "ok".into(), reason: String::new(), count };
    let failed_for = |reason: &str, count| HandshakeCount { outcome: "failed".into(), reason: reason.into(), count };
    let handshakes = failures().map(|(reason, count)| failed_for(reason.label(), count));
    let backend_handshakes =
        BackendReason::ALL.into_iter().zip(backends_failed).map(|(reason, count)| failed_for(reason.label(), count));
    let verdict = |outcome: &str, reason: &str, count| ClientCertificateCount {
        outcome: outcome.into(),
        reason: reason.into(),
        count,
    };
    let refused = failures().filter(|(reason, _)| reason.is_client_certificate());
    let backend = |state: &BackendState| BackendStatus {
        address: state.address.clone(),
        name: state.name.clone().unwrap_or_default(),
        up: state.up,
        active: state.active as u64,
    };
    TerminatorStatus {
        tenant: tenant.to_owned(),
        pid: std::process::id(),
        handshakes: once(ok(succeeded.iter().sum())).chain(handshakes).collect(),
        backend_handshakes: once(ok(sum(&|worker| &worker.backend_handshakes_ok))).chain(backend_handshakes).collect(),
        handshake_seconds: Histogram {
            bounds: HANDSHAKE_BOUNDS.to_vec(),
            counts: succeeded.clone(),
            sum: Duration::from_micros(sum(&|worker| &worker.handshake_micros)).as_secs_f64(),
        },
        client_certificates: [
            verdict("ok", "", sum(&|worker| &worker.clients_identified)),
            verdict("absent", "", sum(&|worker| &worker.clients_without_certificate)),
        ]
        .into_iter()
        .chain(refused.map(|(reason, count)| verdict("refused", reason.label(), count)))
        .collect(),
        active: sum(&|worker| &worker.active),
        client_to_backend: sum(&|worker| &worker.traffic.client_to_backend),
        backend_to_client: sum(&|worker| &worker.traffic.backend_to_client),
        backends: backends.iter().map(backend).collect(),
        certificates: certificates
            .iter()
            .map(|served| CertificateStatus {
                name: served.name.clone(),
                serial: served.leaf.serial.clone(),
                not_before: served.leaf.not_before,
                not_after: served.leaf.not_after,
                names: served.leaf.names(),
            })
            .collect(),
        connections: Outcome::ALL
            .into_iter()
            .zip(ended)
            .map(|(outcome, count)| ConnectionCount { outcome: outcome.label().into(), count })
            .collect(),
        trust: Vec::new(),
        sandbox: Vec::new(),
        ca_bundle: String::new(),
    }
}

fn zeroes<const N: usize>() -> [AtomicU64; N] {
    array::from_fn(|_| AtomicU64::new(0))
}

fn add_one(counter: Option<&AtomicU64>) {
    // Enums index arrays of their own length, so there always is one.
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Seconds: from a resumed handshake on the same host to a slow link at the limit of ten seconds.
const HANDSHAKE_BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_sum_of_the_workers() {
        let workers = [WorkerCounters::new(), WorkerCounters::new()];
        for worker in &workers {
            worker.handshake_ok(Duration::from_millis(1));
            worker.handshake_failed(Reason::ClientCertificateUnknownCa);
            worker.client_certificate(true);
            worker.connection_ended(Outcome::BackendRefused);
        }
        workers[0].handshake_ok(Duration::from_secs(60));
        let active = workers[1].active();
        let status = status("acme", &[], &[], workers.iter());
        let handshakes = |outcome: &str, reason: &str| {
            status.handshakes.iter().find(|h| h.outcome == outcome && h.reason == reason).map(|h| h.count)
        };
        assert_eq!(handshakes("ok", ""), Some(3));
        assert_eq!(handshakes("failed", "client_certificate_unknown_ca"), Some(2));
        assert_eq!(handshakes("failed", "timeout"), Some(0));
        let histogram = &status.handshake_seconds;
        assert_eq!(histogram.counts.len(), histogram.bounds.len() + 1);
        assert_eq!((histogram.counts[1], histogram.counts[14]), (2, 1));
        assert!((histogram.sum - 60.002).abs() < 1e-6);
        let refused = status.client_certificates.iter().find(|c| c.outcome == "refused" && c.count > 0).unwrap();
        assert_eq!((refused.reason.as_str(), refused.count), ("client_certificate_unknown_ca", 2));
        assert_eq!(status.active, 1);
        drop(active);
        assert_eq!(workers[1].active_now(), 0);
    }
}

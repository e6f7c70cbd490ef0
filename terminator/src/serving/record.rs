//! What is written down about one connection: counters, its line in the access log, and the audit line of a handshake
//! that failed. Everything here happens at most once per connection.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use connection::AccessLine;
use connection::clock::instant_of;
use connection::handoff::Handoff;
use connection::relay::{RelayEnd, RelayOutcome};
use rustls::{ProtocolVersion, ServerConnection};
use tracing::{debug, info, warn};

use super::proxy_header::cipher_name;
use super::worker::Worker;
use crate::backend_tls::BackendTlsFailure;
use crate::certificates::{CertificateLabel, ClientIdentity};
use crate::failure::Reason;
use crate::outcome::Outcome;

/// One connection, as far as it is known.
#[derive(Debug)]
pub(super) struct Record<'a> {
    worker: &'a Worker,
    handoff: &'a Handoff,
    accepted: Instant,
    /// `None` where there is no access log, so that nothing is gathered for it.
    line: Option<Box<AccessLine>>,
}

impl<'a> Record<'a> {
    pub(super) fn new(worker: &'a Worker, handoff: &'a Handoff) -> Self {
        let tenant = &worker.shared.tenant;
        let line = tenant.access_log.is_some().then(|| {
            let time = UNIX_EPOCH.checked_add(Duration::from_millis(handoff.accepted_unix_ms));
            let time = time.unwrap_or_else(SystemTime::now);
            Box::new(AccessLine {
                tenant: Some(Cow::Owned(tenant.name.clone())),
                mode: Some("terminate"),
                client: Some(handoff.client),
                server_name: handoff.server_name.clone(),
                alpn: handoff.alpn.clone(),
                ja4: (!handoff.ja4.is_empty()).then(|| handoff.ja4.clone()),
                hello_ms: Duration::try_from_secs_f64(handoff.hello_ms / 1000.0).ok(),
                ..AccessLine::new(handoff.id, time, handoff.listener.clone())
            })
        });
        Self { worker, handoff, accepted: instant_of(handoff.accepted_monotonic_ns), line }
    }

    /// The handshake is complete: what was agreed upon, and who the client is.
    pub(super) fn handshake_ok(
        &mut self,
        tls: &ServerConnection,
        asked: bool,
        identity: Option<&ClientIdentity>,
        took: Duration,
    ) {
        let counters = self.worker.counters();
        counters.handshake_ok(took);
        if asked {
            counters.client_certificate(identity.is_some());
        }
        let Some(line) = &mut self.line else { return };
        line.handshake_ms = Some(took);
        line.alpn =
            tls.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()).into_iter().collect();
        line.tls_version = tls.protocol_version().map(|version| match version {
            ProtocolVersion::TLSv1_3 => Cow::Borrowed("1.3"),
            ProtocolVersion::TLSv1_2 => Cow::Borrowed("1.2"),
            other => Cow::Owned(format!("{other:?}")),
        });
        line.tls_cipher = cipher_name(tls).map(Cow::Owned);
        if let Some(identity) = identity {
            line.client_identity = Some(identity.name.clone());
            line.groups.clone_from(&identity.groups);
        }
    }

    /// Counts the failure and writes its audit line. What a client does wrong is no error of ours; a client that just
    /// leaves is not even worth a line.
    pub(super) fn handshake_failed(&mut self, reason: Reason, words: &str, refused: Option<&CertificateLabel>) {
        self.worker.counters().handshake_failed(reason);
        let Handoff { id, client, server_name, .. } = self.handoff;
        let (server_name, reason_label) = (server_name.as_deref().unwrap_or_default(), reason.label());
        match reason {
            Reason::ClientClosed | Reason::Drained => {
                debug!(target: "audit", %id, %client, server_name, reason = reason_label, words, "handshake failed");
            }
            Reason::Internal => {
                warn!(target: "audit", %id, %client, server_name, reason = reason_label, words, "handshake failed");
            }
            _ if reason.is_client_certificate() => {
                let CertificateLabel { subject, serial, sha256 } = refused.cloned().unwrap_or_default();
                info!(target: "audit", %id, %client, server_name, reason = reason_label, words, subject, serial, sha256, "client certificate refused");
            }
            _ => info!(target: "audit", %id, %client, server_name, reason = reason_label, words, "handshake failed"),
        }
        if let Some(line) = &mut self.line {
            line.reason = Some(Cow::Owned(format!("{reason_label}: {words}")));
        }
    }

    /// Writes the audit line of TLS with a backend that failed: the tenant's own house, so somebody should look.
    pub(super) fn backend_tls_failed(&self, backend: SocketAddr, failure: &BackendTlsFailure) {
        let Handoff { id, client, .. } = self.handoff;
        let BackendTlsFailure { reason, words, refused } = failure;
        let CertificateLabel { subject, serial, sha256 } = refused.clone().unwrap_or_default();
        let reason = reason.label();
        warn!(target: "audit", %id, %client, %backend, reason, words, subject, serial, sha256, "backend refused: its TLS failed");
    }

    pub(super) fn connected(&mut self, backend: SocketAddr, took: Duration) {
        if let Some(line) = &mut self.line {
            line.connect_ms = Some(took);
            line.backend = Some(backend);
        }
    }

    pub(super) fn relayed(&mut self, end: &RelayEnd) {
        let Some(line) = &mut self.line else { return };
        line.client_to_backend = end.client_to_backend;
        line.backend_to_client = end.backend_to_client;
        line.data_path = Some(end.path.as_str());
        if let RelayOutcome::ClientError(error) | RelayOutcome::BackendError(error) = &end.outcome {
            line.reason = Some(Cow::Owned(error.to_string()));
        }
    }

    /// Why the connection ends, in words.
    pub(super) fn reason(&mut self, words: String) {
        if let Some(line) = &mut self.line {
            line.reason = Some(Cow::Owned(words));
        }
    }

    /// Counts the end and writes the line.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.worker.counters().connection_ended(outcome);
        let total = self.accepted.elapsed();
        debug!(id = %self.handoff.id, client = %self.handoff.client, outcome = outcome.label(), ?total, "connection ended");
        if let (Some(mut line), Some(log)) = (self.line.take(), &self.worker.shared.tenant.access_log) {
            line.outcome = Cow::Borrowed(outcome.label());
            line.total_ms = Some(total);
            log.write(*line);
        }
    }
}

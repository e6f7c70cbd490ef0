//! The rustls configuration of the tenant: versions, groups, ALPN, client certificates, resumption.
//! Built anew whenever a file has changed; reads none itself.

use std::sync::Arc;

use config::{ClientRule, ClientValidation, Terminate, TlsVersion};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::version::{TLS12, TLS13};
use thiserror::Error;

use crate::backend_tls::BackendConnector;
use crate::certificates::{CertificateError, CertificateResolver, Ending, ServedCertificate};

/// What the terminator serves: the rustls configuration, and its certificates for the status.
#[derive(Debug)]
pub(crate) struct TenantTls {
    /// Shared by all connections.
    pub server: Arc<ServerConfig>,
    /// In the order of the configuration.
    pub certificates: Vec<ServedCertificate>,
    /// What clients are told to trust, as PEM.
    pub authorities: Option<Arc<str>>,
    /// What ends beside [`TenantTls::with_an_end`]: issuers, CAs and revocation lists.
    pub trust: Vec<Ending>,
    /// What connects to the backends, where they get TLS.
    pub backend: Option<Arc<BackendConnector>>,
    /// Whether clients are asked for a certificate.
    pub asks_clients: bool,
    /// Which clients are let in, for the identity of those that are.
    pub client_rules: Vec<ClientRule>,
}

impl TenantTls {
    /// Puts together what was read from files.
    pub(crate) fn new(
        terminate: &Terminate,
        certificates: Vec<ServedCertificate>,
        authorities: Option<Arc<str>>,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
        provider: Arc<CryptoProvider>,
        tickets: &Tickets,
    ) -> Result<Self, TlsConfigError> {
        let server = server_config(terminate, &certificates, verifier, provider, tickets)?;
        let asks_clients = terminate.client_validation != ClientValidation::None;
        let client_rules = terminate.client_validation.trust().map(|trust| trust.allow.clone()).unwrap_or_default();
        Ok(Self {
            server: Arc::new(server),
            certificates,
            authorities,
            trust: Vec::new(),
            backend: None,
            asks_clients,
            client_rules,
        })
    }

    /// Every certificate of the tenant's own, shown to clients or to backends.
    pub(crate) fn with_an_end(&self) -> Vec<ServedCertificate> {
        let shown_to_backends = self.backend.iter().filter_map(|backend| backend.client_certificate.clone());
        self.certificates.iter().cloned().chain(shown_to_backends).collect()
    }

    /// Everything that comes to an end.
    pub(crate) fn endings(&self) -> Vec<Ending> {
        self.with_an_end().iter().map(Ending::own).chain(self.trust.iter().cloned()).collect()
    }
}

/// The keys of session tickets: of this process alone, rotated every six hours. They outlive a renewed certificate, so
/// that clients resume as before.
#[derive(Clone, Debug)]
pub(crate) struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// With random keys.
    pub(crate) fn new() -> Result<Self, TlsConfigError> {
        Ok(Self(aws_lc_rs::Ticketer::new()?))
    }
}

/// Why the tenant's TLS cannot be set up.
#[derive(Debug, Error)]
pub(crate) enum TlsConfigError {
    /// A file is the reason.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Nothing could be generated.
    #[error("no certificate: {0}")]
    Generated(String),
    /// The cryptographic provider is: no randomness, most likely.
    #[error("set up TLS: {0}")]
    Provider(#[from] rustls::Error),
}

fn server_config(
    terminate: &Terminate,
    served: &[ServedCertificate],
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
    tickets: &Tickets,
) -> Result<ServerConfig, TlsConfigError> {
    let versions = match terminate.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12][..],
        TlsVersion::V1_3 => &[&TLS13][..],
    };
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Arc::new(CertificateResolver::new(served)));
    server.alpn_protocols = terminate.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    // Early data can be replayed, and a relay cannot tell which requests would bear that (RFC 8446 section 8).
    server.max_early_data_size = 0;
    // Tickets are stateless; a session store would only add memory that clients can fill.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    if terminate.client_validation == ClientValidation::None {
        server.ticketer = Arc::clone(&tickets.0);
    } else {
        // A resumed session would not present its certificate again: expiry and changes of the CAs would be missed.
        server.send_tls13_tickets = 0;
        server.max_tls13_tickets = 0;
    }
    Ok(server)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use config::{Config, Mode};
    use rustls::NamedGroup;

    use super::*;
    use crate::reload::Sources;
    use crate::test_pki::{Authority, KeyKind};

    fn tenant(client_validation: &str) -> TenantTls {
        let authority = Authority::new("a");
        let pair = authority.server(&["a.example"], KeyKind::Ecdsa);
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in
            [("tls.crt", &pair.chain_pem), ("tls.key", &pair.key_pem), ("ca.crt", &authority.ca_pem())]
        {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let dir = dir.path().display().to_string();
        let client_validation = client_validation.replace("{dir}", &dir);
        let config = Config::from_yaml(&format!(
            "listeners: [{{name: tls, address: '127.0.0.1:8443'}}]\n\
             tenants:\n\
             - name: a\n  hostnames: [a.example]\n  mode: Terminate\n  backends: [{{address: '127.0.0.1:1'}}]\n  \
               tls: {{certificates: [{{secretDir: '{dir}'}}], {client_validation}}}\n"
        ))
        .unwrap();
        let Mode::Terminate(terminate) = &config.tenants[0].mode else { panic!("mode") };
        Sources::load(terminate, &[], None).unwrap().0.tls().unwrap()
    }

    #[test]
    fn post_quantum_key_exchange_comes_first() {
        let groups: Vec<_> = tenant("").server.crypto_provider().kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups.first(), Some(&NamedGroup::X25519MLKEM768));
        assert!(groups.contains(&NamedGroup::X25519) && groups.contains(&NamedGroup::secp256r1));
    }

    #[test]
    fn sessions_resume_by_ticket_only_where_no_client_certificate_is_asked_for() {
        let plain = tenant("").server;
        assert!(plain.ticketer.enabled() && plain.send_tls13_tickets > 0);
        let mutual = |mode| tenant(&format!("clientValidation: {{mode: {mode}, ca: [\"{{dir}}/ca.crt\"]}}")).server;
        let (optional, required) = (mutual("Optional"), mutual("Required"));
        for server in [&optional, &required] {
            assert!(!server.ticketer.enabled());
            assert_eq!((server.send_tls13_tickets, server.max_tls13_tickets), (0, 0));
        }
        for server in [plain, optional, required] {
            assert!(!server.session_storage.can_cache());
            assert_eq!(server.max_early_data_size, 0);
        }
    }
}

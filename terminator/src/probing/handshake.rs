//! One look at one backend: a TLS handshake that goes as far as the backend lets it, and what was shown in it. Trusts
//! nobody, believes nothing, and never sends a byte of application data.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use config::Tenant;
use connection::backends::{ConnectProbe, Endpoint};
use connection::{DialError, dial_announced, label_set};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::name::server_name;
use crate::certificates::Leaf;

label_set! {
    /// How a look ended: label `outcome` of `sni_router_certificate_probes_total`.
    pub(super) enum Outcome {
        /// There was a certificate.
        Ok = "ok",
        /// Nobody listens there.
        Refused = "refused",
        /// No connection, or no certificate, in time.
        Timeout = "timeout",
        /// No way there.
        Unreachable = "unreachable",
        /// The backend closed or reset the connection without a certificate.
        Closed = "closed",
        /// The backend ended the handshake with an alert, for instance because it does not know the name.
        Alert = "alert",
        /// What answers speaks no TLS, or none that is spoken here.
        NoTls = "no_tls",
        /// The certificate cannot be read.
        Unreadable = "unreadable",
        /// This host lacks descriptors, memory or ports.
        Shortage = "shortage",
    }
}

/// What a backend showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Its own certificate.
    pub(super) leaf: Leaf,
    /// Those of its issuers that end earlier, in their order.
    pub(super) earlier: Vec<Leaf>,
}

/// Why nothing was seen.
#[derive(Debug)]
pub(super) struct NothingSeen {
    pub(super) outcome: Outcome,
    pub(super) words: String,
}

/// Looks at backends.
#[derive(Debug)]
pub(super) struct Handshaker {
    provider: Arc<CryptoProvider>,
}

impl Handshaker {
    pub(super) fn new() -> Result<Self, TlsError> {
        let this = Self { provider: Arc::new(aws_lc_rs::default_provider()) };
        // What would fail, fails now.
        this.config(Arc::default()).map(|_| this)
    }

    /// Within [`LIMIT`], of which the connection may take the tenant's `connectTimeout`.
    pub(super) async fn look(
        &self,
        tenant: &Tenant,
        header: &ConnectProbe,
        endpoint: &Endpoint,
    ) -> Result<Shown, NothingSeen> {
        let deadline = Instant::now() + LIMIT;
        let tcp = dial_announced(endpoint.address, tenant.connect_timeout.min(LIMIT), header.header()).await;
        let tcp = tcp.map_err(|error| NothingSeen { outcome: Outcome::of_dial(&error), words: error.to_string() })?;
        let seen = Arc::new(Seen::default());
        let failed = |outcome, words: String| NothingSeen { outcome, words };
        let config = self.config(Arc::clone(&seen)).map_err(|error| failed(Outcome::Shortage, error.to_string()))?;
        let name = server_name(tenant, endpoint);
        let ended = timeout_at(deadline, shake_hands(TlsConnector::from(Arc::new(config)), name, tcp)).await;
        // However the handshake ended: a backend that demands our certificate has shown its own before.
        match (seen.0.get(), ended) {
            (Some(chain), _) => Shown::of(chain).map_err(|error| failed(Outcome::Unreadable, error)),
            (None, Ok(Err(error))) => Err(failed(Outcome::of_handshake(&error), error.to_string())),
            (None, Ok(Ok(()))) => Err(failed(Outcome::NoTls, "a handshake without a certificate".to_owned())),
            (None, Err(_elapsed)) => Err(failed(Outcome::Timeout, format!("no certificate within {LIMIT:?}"))),
        }
    }

    fn config(&self, seen: Arc<Seen>) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(&[&TLS13, &TLS12])?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(seen).with_no_client_auth();
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// To the end of the handshake, and to a farewell: a backend that is left in the middle would log an error.
async fn shake_hands(connector: TlsConnector, name: ServerName<'static>, tcp: TcpStream) -> io::Result<()> {
    let mut stream = connector.connect(name, tcp).await?;
    stream.shutdown().await
}

impl Shown {
    fn of(chain: &[CertificateDer<'_>]) -> Result<Self, String> {
        let (leaf, issuers) = chain.split_first().ok_or("an empty chain")?;
        let leaf = Leaf::parse(leaf)?;
        // Clients have roots of their own, and do not look at this one's end.
        let issuers = issuers.iter().take(LONGEST_CHAIN).filter(|der| !is_self_signed(der));
        let issuers = issuers.filter_map(|der| Leaf::parse(der).ok());
        Ok(Self { earlier: issuers.filter(|issuer| issuer.not_after < leaf.not_after).collect(), leaf })
    }
}

fn is_self_signed(der: &[u8]) -> bool {
    x509_parser::parse_x509_certificate(der)
        .is_ok_and(|(_, certificate)| certificate.subject().as_raw() == certificate.issuer().as_raw())
}

impl Outcome {
    fn of_dial(error: &DialError) -> Self {
        match error {
            DialError::Refused { .. } => Self::Refused,
            DialError::TimedOut { .. } => Self::Timeout,
            DialError::Unreachable { .. } => Self::Unreachable,
            DialError::NoLocalPort { .. } | DialError::NoDescriptors { .. } | DialError::NoMemory { .. } => {
                Self::Shortage
            }
            _ => Self::Closed,
        }
    }

    /// What rustls reports arrives wrapped; all else is the socket's.
    fn of_handshake(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(TlsError::AlertReceived(_)) => Self::Alert,
            Some(_) => Self::NoTls,
            None => Self::Closed,
        }
    }
}

/// Takes note of what it is shown and has no objection.
#[derive(Debug, Default)]
struct Seen(OnceLock<Vec<CertificateDer<'static>>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let chain = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned());
        // A handshake shows one chain.
        let _ = self.0.set(chain.collect());
        Ok(ServerCertVerified::assertion())
    }

    // Nothing is sent to whoever this is, so nobody has to prove anything.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// All that a backend's key may be of, whatever a client of ours would accept.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::ED448,
            SignatureScheme::ML_DSA_44,
            SignatureScheme::ML_DSA_65,
            SignatureScheme::ML_DSA_87,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::ECDSA_SHA1_Legacy,
            SignatureScheme::RSA_PKCS1_SHA1,
        ]
    }
}

/// Of a whole look. A backend that takes longer serves no client either.
const LIMIT: Duration = Duration::from_secs(10);

/// Longer ones are refused by common clients (OpenSSL's verify depth is 100, webpki's 6).
const LONGEST_CHAIN: usize = 8;

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::test_pki::Authority;

    #[test]
    fn an_issuer_that_ends_before_the_certificate_is_told_and_a_root_is_not() {
        let root = Authority::new("root");
        let issuer = root.intermediate("issuer");
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let shown = |until: i32| {
            let leaf = issuer.dated_server(&["a.example"], (2020, until)).chain_pem;
            Shown::of(&[der(&leaf), der(&issuer.ca_pem()), der(&root.ca_pem())]).unwrap()
        };
        // Authorities of the tests end in the year 4096.
        let (before, after) = (shown(2100), shown(5000));
        assert_eq!(before.earlier, []);
        assert_eq!(after.earlier, [Leaf::parse(&der(&issuer.ca_pem())).unwrap()]);
        assert_eq!(after.leaf.dns_names, ["a.example"]);
        assert!(Shown::of(&[CertificateDer::from(vec![1, 2, 3])]).is_err());
    }

    #[test]
    fn labels_differ() {
        let labels: std::collections::HashSet<_> = Outcome::ALL.into_iter().map(Outcome::label).collect();
        assert_eq!(labels.len(), Outcome::ALL.len());
    }

    #[test]
    fn how_a_handshake_failed_is_told_apart() {
        let tls = |error: TlsError| io::Error::new(io::ErrorKind::InvalidData, error);
        let alert = TlsError::AlertReceived(rustls::AlertDescription::UnrecognisedName);
        assert_eq!(Outcome::of_handshake(&tls(alert)), Outcome::Alert);
        assert_eq!(Outcome::of_handshake(&tls(rustls::InvalidMessage::InvalidContentType.into())), Outcome::NoTls);
        assert_eq!(Outcome::of_handshake(&io::ErrorKind::UnexpectedEof.into()), Outcome::Closed);
        assert!(Shown::of(&[]).is_err());
    }
}

//! The set-up that most scenarios share: one tenant of each mode, each with a backend that tells what it sees.

use tests::authority::{Authority, Identity, KeyKind};
use tests::fakes::{IdentityBackend, PlainHttp};
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

pub(crate) struct TwoTenants {
    pub(crate) authority: Authority,
    pub(crate) client: Identity,
    pub(crate) acme: Identity,
    pub(crate) passthrough_backend: IdentityBackend,
    pub(crate) terminate_backend: PlainHttp,
}

impl TwoTenants {
    pub(crate) fn start() -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        let server = authority.server(&[PASSTHROUGH], KeyKind::Ecdsa).unwrap();
        Self {
            client: authority.client("somebody").unwrap(),
            acme: authority.server(&[TERMINATE, "*.acme.test"], KeyKind::Ecdsa).unwrap(),
            passthrough_backend: IdentityBackend::start("pinniped", &server, &authority).unwrap(),
            terminate_backend: PlainHttp::start("acme").unwrap(),
            authority,
        }
    }

    /// Both tenants, for more lines and tenants.
    pub(crate) fn setup(&self) -> Setup {
        Setup::new().tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], self.passthrough_backend.address())).tenant(
            Tenant::terminate("acme", &[TERMINATE, "*.acme.test"], self.terminate_backend.address(), &self.acme)
                .tls_line("alpn: [http/1.1]"),
        )
    }

    /// Trusts both tenants' certificates and shows one of its own when asked.
    pub(crate) fn tls_client(&self) -> TlsClient {
        TlsClient::trusting(&self.authority).unwrap().with_identity(&self.client)
    }
}

pub(crate) const PASSTHROUGH: &str = "k8s.pinniped.test";
pub(crate) const TERMINATE: &str = "api.acme.test";

//! Session tickets across tenants, with openssl as the client: it shows a ticket wherever it is told to.

use tests::authority::{Authority, KeyKind};
use tests::client_tools::{Tool, require};
use tests::fakes::PlainHttp;
use tests::openssl::SClient;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

use crate::two_tenants::TERMINATE;

#[test]
fn a_ticket_of_one_tenant_means_nothing_to_another() {
    let Some(openssl) = require(Tool::OpenSsl, "tickets across tenants").unwrap() else { return };
    let authority = Authority::new("scenario CA").unwrap();
    let backend = PlainHttp::start("both").unwrap();
    // One certificate for both, so that nothing but the ticket's key tells the tenants apart.
    let certificate = authority.server(&[TERMINATE, GLOBEX], KeyKind::Ecdsa).unwrap();
    let setup = Setup::new()
        .tenant(Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate))
        .tenant(Tenant::terminate("globex", &[GLOBEX], backend.address(), &certificate));
    let router = RouterProcess::start(setup).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let session = router.folder().join(format!("session{version}"));
        let client = |name: &str| SClient::new(openssl.clone(), router.address(), name).option(version);
        let first = client(TERMINATE).with("-sess_out", &session).run().unwrap();
        assert!(first.is_answered() && !first.is_resumed(), "{}", first.0);
        for (name, resumed) in [(TERMINATE, true), (GLOBEX, false)] {
            let said = client(name).with("-sess_in", &session).run().unwrap();
            assert_eq!((said.is_answered(), said.is_resumed()), (true, resumed), "{name} {version}: {}", said.0);
        }
    }
}

const GLOBEX: &str = "www.globex.test";

//! Many tenants on one port, each with certificates of its own and with client CAs of its own.

use std::path::PathBuf;

use tests::authority::{Authority, KeyKind, PemFiles};
use tests::fakes::PlainHttp;
use tests::patience::{PATIENCE, eventually};
use tests::real_client::{RealClient, Request};
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};

const CLIENTS: [RealClient; 3] = [RealClient::Curl, RealClient::OpenSsl, RealClient::GnuTls];

#[test]
fn each_tenant_serves_its_own_certificates_and_lets_in_the_clients_of_its_own_authority() {
    let scratch = Scratch::new().unwrap();
    let names = ["alpha", "beta", "gamma"];
    let houses = names.map(|name| House::new(name, &scratch));
    let setup = houses.iter().fold(Setup::new(), |setup, house| setup.tenant(house.tenant()));
    let router = RouterProcess::start_in(scratch, setup).unwrap();
    let get = |client: RealClient, house: &House, identity: &PemFiles, subdomain: &str| {
        client.get(&Request {
            router: router.address(),
            name: format!("{subdomain}.{}.test", house.name),
            authority: house.server_ca.clone(),
            identity: Some(identity.clone()),
        })
    };
    for client in CLIENTS {
        for house in &houses {
            // By the exact name and by the wildcard, which are two certificates.
            for subdomain in ["www", "api"] {
                let Some(answer) = get(client, house, &house.client, subdomain).unwrap() else { continue };
                assert!(answer.contains(&format!("\"backend\":\"{}\"", house.name)), "{client:?}: {answer}");
            }
            for other in houses.iter().filter(|other| other.name != house.name) {
                let refusal = get(client, house, &other.client, "www");
                assert!(!matches!(refusal, Ok(Some(_))), "{client:?}: a client of {} at {}", other.name, house.name);
            }
        }
    }
    for house in &houses {
        // gnutls-cli sends no certificate of another authority than those that it was told of.
        let reasons = ["client_certificate_unknown_ca", "client_certificate_missing"];
        let refused = |reason| {
            let labels = [("tenant", house.name), ("outcome", "refused"), ("reason", reason)];
            router.metrics().unwrap().sum("sni_terminator_client_certificates_total", &labels)
        };
        eventually(PATIENCE, "every refusal is counted", || {
            (reasons.map(refused).iter().sum::<f64>() == 2.0 * CLIENTS.len() as f64).then_some(())
        })
        .unwrap();
        assert_eq!(house.backend.accepted(), 2 * CLIENTS.len() as u64);
    }

    // One tenant's client authority is replaced; the others do not notice.
    let [alpha, beta, _] = &houses;
    let next = Authority::new("next").unwrap();
    std::fs::write(&alpha.client_ca, next.pem()).unwrap();
    let next = next.client("somebody").unwrap().write_files(router.folder(), "next").unwrap();
    eventually(PATIENCE, "alpha trusts its new authority", || {
        get(RealClient::Curl, alpha, &next, "www").ok().flatten()
    })
    .unwrap();
    assert!(get(RealClient::Curl, alpha, &alpha.client, "www").is_err());
    assert!(get(RealClient::Curl, beta, &beta.client, "www").is_ok());
    assert!(get(RealClient::Curl, beta, &next, "www").is_err());
}

/// One tenant's people and things.
struct House {
    name: &'static str,
    servers: Authority,
    server_ca: PathBuf,
    client_ca: PathBuf,
    client: PemFiles,
    backend: PlainHttp,
}

impl House {
    fn new(name: &'static str, scratch: &Scratch) -> Self {
        // The same names everywhere: only the keys tell one tenant's authorities from another's.
        let (servers, clients) = (Authority::new("servers").unwrap(), Authority::new("clients").unwrap());
        Self {
            name,
            server_ca: scratch.write(&format!("{name}-servers.crt"), servers.pem()).unwrap(),
            client_ca: scratch.write(&format!("{name}-clients.crt"), clients.pem()).unwrap(),
            client: clients.client("somebody").unwrap().write_files(scratch.path(), name).unwrap(),
            backend: PlainHttp::start(name).unwrap(),
            servers,
        }
    }

    fn tenant(&self) -> Tenant {
        let (exact, wildcard) = (format!("www.{}.test", self.name), format!("*.{}.test", self.name));
        let exact_certificate = self.servers.server(&[&exact], KeyKind::Ecdsa).unwrap();
        let wildcard_certificate = self.servers.server(&[&wildcard], KeyKind::Rsa).unwrap();
        Tenant::terminate(self.name, &[&exact, &wildcard], self.backend.address(), &exact_certificate)
            .certificate(&wildcard_certificate)
            .tls_line(&format!("clientValidation: {{ mode: Required, ca: [{}] }}", self.client_ca.display()))
    }
}

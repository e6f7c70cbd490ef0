//! What testssl.sh finds about a terminated tenant: nothing above LOW.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tests::authority::Authority;
use tests::client_tools::{Tool, require};
use tests::fakes::PlainHttp;
use tests::openssl::SClient;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

#[test]
fn testssl_finds_nothing_above_low() {
    let Some(testssl) = require(Tool::TestSsl, "testssl.sh").unwrap() else { return };
    let authority = Authority::new("scenario CA").unwrap();
    let backend = PlainHttp::start("acme").unwrap();
    let certificate = authority.server_for(&[HOST], QUARTER).unwrap();
    let tenant = Tenant::terminate("acme", &[HOST], backend.address(), &certificate).tls_line("alpn: [http/1.1]");
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    let ca = router.folder().join("ca.crt");
    fs::write(&ca, authority.pem()).unwrap();
    let report = router.folder().join("testssl.json");
    let port = router.address().port();
    // The name leads nowhere, so the address is given; the CA is this test's own. Protocols, ciphers, forward secrecy,
    // certificate and vulnerabilities; not the HTTP headers, which are the backend's.
    let output = Command::new(testssl)
        .args(["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--nodns", "none"])
        .args(["--protocols", "--std", "--fs", "--server-defaults", "--vulnerable"])
        .arg("--add-ca")
        .arg(&ca)
        .arg("--jsonfile")
        .arg(&report)
        .arg(format!("{HOST}:{port}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let findings: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}\n{text}{}", String::from_utf8_lossy(&output.stderr)));
    let findings = findings.as_array().unwrap();
    assert!(findings.len() > 40, "hardly anything was looked at:\n{text}");
    let has = |id: &str, words: &str| {
        findings.iter().any(|one| one["id"] == id && one["finding"].as_str().is_some_and(|text| text.contains(words)))
    };
    assert!(has("TLS1_3", "offered") && has("TLS1_2", "offered") && has("TLS1_1", "not offered"), "{text}");
    let above_low: Vec<String> = findings
        .iter()
        .filter(|one| ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].contains(&one["severity"].as_str().unwrap_or_default()))
        .filter(|one| one["id"] != OF_THE_CA)
        .map(ToString::to_string)
        .collect();
    assert!(above_low.is_empty(), "{above_low:#?}\n{text}");

    // Warnings say what testssl.sh could not look at: it asks about renegotiation without a server name, for instance,
    // which nobody answers here.
    let Some(openssl) = require(Tool::OpenSsl, "renegotiation").unwrap() else { return };
    let said = SClient::new(openssl, router.address(), HOST).option("-tls1_2").run().unwrap();
    assert!(said.is_answered() && said.0.contains("Secure Renegotiation IS supported"), "{}", said.0);
}

const HOST: &str = "api.acme.test";
const QUARTER: std::time::Duration = std::time::Duration::from_secs(90 * 24 * 60 * 60);

/// That its certificates name no place for revocation lists is a finding about this test's CA.
const OF_THE_CA: &str = "cert_revocation";

//! OCSP responses that lie beside a certificate, as openssl sees them.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::authority::{Authority, Identity, KeyKind};
use tests::client_tools::{Tool, require};
use tests::fakes::PlainHttp;
use tests::openssl::SClient;
use tests::patience::{PATIENCE, eventually};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant, secret_dir};

use crate::two_tenants::TERMINATE;

#[test]
fn a_response_beside_the_certificate_is_stapled_replaced_and_left_out_when_it_does_not_fit() {
    let Some(openssl) = require(Tool::OpenSsl, "stapled OCSP responses").unwrap() else { return };
    let authority = Authority::new("scenario CA").unwrap();
    let backend = PlainHttp::start("acme").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let other = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let tenant = Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate);
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    let stapled = || {
        let said = SClient::new(openssl.clone(), router.address(), TERMINATE).option("-status").run().unwrap();
        assert!(said.is_answered(), "{}", said.0);
        let good = said.0.contains("OCSP Response Status: successful") && said.0.contains("Cert Status: good");
        assert!(good || said.0.contains("OCSP response: no response sent"), "{}", said.0);
        good
    };
    assert!(!stapled());

    let file = secret_dir(router.folder(), "acme", 0).join("tls.ocsp");
    let respond = |about: &Identity, name: &str| response(&openssl, router.folder(), &authority, about, name);
    place(&respond(&certificate, "good"), &file);
    router.log().wait_for(PATIENCE, &["OCSP response stapled", "until="]).unwrap();
    eventually(PATIENCE, "it is stapled", || stapled().then_some(())).unwrap();

    place(&respond(&other, "other"), &file);
    router.log().wait_for(PATIENCE, &["WARN", "OCSP response is not stapled", "is about another certificate"]).unwrap();
    eventually(PATIENCE, "nothing is stapled", || (!stapled()).then_some(())).unwrap();

    place(&respond(&certificate, "again"), &file);
    eventually(PATIENCE, "it is stapled again", || stapled().then_some(())).unwrap();
    fs::remove_file(&file).unwrap();
    router.log().wait_for(PATIENCE, &["OCSP response is gone"]).unwrap();
    eventually(PATIENCE, "nothing is stapled", || (!stapled()).then_some(())).unwrap();
    assert!(router.log().with(&["certificate renewed"]).is_empty(), "only the response has changed");
}

/// What a responder of this CA says about a certificate: good, for a day.
fn response(openssl: &Path, folder: &Path, authority: &Authority, about: &Identity, name: &str) -> Vec<u8> {
    let path = |file: &str| folder.join(format!("{name}-{file}"));
    fs::write(path("ca.crt"), authority.pem()).unwrap();
    fs::write(path("ca.key"), authority.key_pem()).unwrap();
    fs::write(path("leaf.crt"), about.certificate_pem()).unwrap();
    // ca(1): status, end, revocation, serial, file, subject.
    fs::write(path("index.txt"), format!("V\t400101000000Z\t\t{}\tunknown\t/CN=leaf\n", about.serial().unwrap()))
        .unwrap();
    let run = |arguments: &[(&str, Option<&str>)]| {
        let mut command = Command::new(openssl);
        command.arg("ocsp");
        for (option, file) in arguments {
            command.arg(option);
            command.args(file.map(path));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&[("-issuer", Some("ca.crt")), ("-cert", Some("leaf.crt")), ("-reqout", Some("request")), ("-no_nonce", None)]);
    let mut answer = Command::new(openssl);
    answer.args(["ocsp", "-ndays", "1", "-index"]).arg(path("index.txt")).arg("-CA").arg(path("ca.crt"));
    answer.arg("-rsigner").arg(path("ca.crt")).arg("-rkey").arg(path("ca.key"));
    answer.arg("-reqin").arg(path("request")).arg("-respout").arg(path("response"));
    let output = answer.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(path("response")).unwrap()
}

/// A rename over the file.
fn place(content: &[u8], file: &Path) {
    let beside = file.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, file).unwrap();
}

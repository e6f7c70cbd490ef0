//! Inputs that are wrong: the error names what to mend, and the exit code says whose fault it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::geteuid;
use tokio::process::Command;

use crate::support::backend::closed_port;
use crate::support::patience::soon;
use crate::support::pki::{Authority, KeyKind};
use crate::support::process::Setup;

#[tokio::test]
async fn a_key_of_another_certificate_ends_the_start() {
    let authority = Authority::new("a");
    let mut setup = Setup::new(closed_port());
    let folder = setup.certificate(&authority.server(&["api.acme.example"], KeyKind::Ecdsa));
    let other = authority.server(&["api.acme.example"], KeyKind::Ecdsa);
    fs::write(folder.join("tls.key"), other.key_pem).unwrap();
    let mut terminator = setup.launch();
    assert_eq!(terminator.exit_status().await.code(), Some(1));
    terminator.log.line_with(&["tls.key: this key does not belong to the certificate in", "tls.crt"]).await;
}

#[tokio::test]
async fn an_unreadable_key_is_named_with_the_command_that_mends_it() {
    if !geteuid().is_root() {
        println!("skipped: without root the terminator keeps the uid that owns the files");
        return;
    }
    let mut setup = Setup::new(closed_port());
    let folder = setup.certificate(&Authority::new("a").server(&["api.acme.example"], KeyKind::Ecdsa));
    let key = folder.join("tls.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let mut terminator = setup.launch();
    assert_eq!(terminator.exit_status().await.code(), Some(1));
    let line = terminator.log.line_with(&["sni-terminator: read", "tls.key: Permission denied"]).await;
    let uid = line.split("uid ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(line.contains(&format!("setfacl -m u:{uid}:r {0}, or chown {uid} {0}", key.display())), "{line}");
}

#[tokio::test]
async fn a_folder_that_the_tenant_may_not_enter_is_named() {
    if !geteuid().is_root() {
        println!("skipped: without root the terminator keeps the uid that owns the files");
        return;
    }
    let mut setup = Setup::new(closed_port());
    let folder = setup.certificate(&Authority::new("a").server(&["api.acme.example"], KeyKind::Ecdsa));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let mut terminator = setup.launch();
    assert_eq!(terminator.exit_status().await.code(), Some(1));
    let remedy = format!(":x {}", folder.display());
    terminator.log.line_with(&["may not enter", &remedy]).await;
}

#[tokio::test]
async fn wrong_command_lines_and_configurations_end_with_1_and_a_refused_socket_with_2() {
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sni-terminator"));
        let output = soon("it ends", command.args(arguments).output()).await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let serve = async |config: &Path, tenant: &str| {
        run(&["serve", "--config", config.to_str().unwrap(), "--tenant", tenant, "--socket", "/nonexistent/s"]).await
    };
    assert_eq!(run(&["serve"]).await.0, Some(1));
    assert_eq!(run(&["--help"]).await.0, Some(0));
    let (code, error) = serve(Path::new("/nonexistent.yaml"), "acme").await;
    assert!(code == Some(1) && error.contains("/nonexistent.yaml"), "{error}");

    let mut setup = Setup::new(closed_port());
    setup.certificate(&Authority::new("a").server(&["api.acme.example"], KeyKind::Ecdsa));
    setup.tenant =
        "\n- {name: through, hostnames: [x.example], mode: Passthrough, backends: [{address: '127.0.0.1:1'}]}".into();
    let mut yaml = setup.yaml();
    yaml = yaml.replace("  - {name: through", "- {name: through");
    let config = setup.file("all.yaml", &yaml);
    let (code, error) = serve(&config, "globex").await;
    assert!(code == Some(1) && error.contains("tenants of mode Terminate: acme"), "{error}");
    let (code, error) = serve(&config, "through").await;
    assert!(code == Some(1) && error.contains("mode Passthrough"), "{error}");
    let (code, error) = serve(&config, "acme").await;
    assert!(code == Some(2) && error.contains("bind /nonexistent/s"), "{error}");
}

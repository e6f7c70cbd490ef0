//! gRPC with mutual TLS between a manager and a provider, both of them grpcio: rotation on both sides, pinning, alerts;
//! through Passthrough and through Terminate.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use config::Config;
use serde_json::Value;
use tests::authority::{Authority, Identity, KeyKind, PemFiles};
use tests::binaries::workspace_folder;
use tests::client_tools::{Tool, require};
use tests::grpc::{Manager, Provider};
use tests::patience::{PATIENCE, eventually};
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant, backend_client_dir, secret_dir, tenant_owner};

#[test]
fn through_passthrough_the_two_ends_know_each_other_and_rotate_by_themselves() {
    let Some(python) = require(Tool::GrpcIo, "gRPC through Passthrough").unwrap() else { return };
    let scene = Scene::new(python);
    let provider = scene.provider(&scene.managers_ca);
    let setup = Setup::new().tenant(Tenant::passthrough("virtrigaud", &[NAME], provider.address()));
    let router = RouterProcess::start(setup).unwrap();
    let mut manager = scene.manager(&router, &scene.providers_ca);
    assert_eq!(manager.call().unwrap()["sha256"], scene.manager.sha256());
    manager.watch().unwrap();

    // Both renew; the connection that is there goes on.
    scene.write_provider(&scene.providers.server(&[NAME], KeyKind::Rsa).unwrap());
    let renewed = scene.managers.client("manager").unwrap();
    scene.write_manager(&renewed);
    assert_eq!(manager.watch().unwrap()["sha256"], scene.manager.sha256());
    assert_eq!(manager.call_anew().unwrap()["sha256"], renewed.sha256());

    // A manager of another authority is the provider's to refuse, and a provider of another one the manager's.
    scene.write_manager(&scene.strangers.client("manager").unwrap());
    assert_eq!(manager.call_anew().unwrap()["error"], "UNAVAILABLE");
    scene.write_manager(&renewed);
    scene.write_provider(&scene.strangers.server(&[NAME], KeyKind::Ecdsa).unwrap());
    assert_eq!(manager.call_anew().unwrap()["error"], "UNAVAILABLE");
}

#[test]
fn through_terminate_managers_are_let_in_by_rules_and_providers_by_pins() {
    let Some(python) = require(Tool::GrpcIo, "gRPC through Terminate").unwrap() else { return };
    let scene = Scene::new(python);
    let provider = scene.provider(&scene.edges_ca);
    let next = scene.providers.server(&[PROVIDER], KeyKind::Ecdsa).unwrap();
    let serving = scene.servers.server(&[NAME], KeyKind::Ecdsa).unwrap();
    let edge = scene.edges.client("edge").unwrap();
    let tenant = Tenant::terminate("virtrigaud", &[NAME], provider.address(), &serving)
        .tls_line("minVersion: \"1.3\"")
        .tls_line("alpn: [h2]")
        .tls_line(&format!(
            "clientValidation: {{ mode: Required, ca: [{}], allow: [{{ commonName: manager }}] }}",
            scene.managers_ca.display()
        ))
        .backend_tls(
            &format!(
                "serverName: {PROVIDER}, ca: [{}], pins: [\"{}\", \"{}\"], minVersion: \"1.3\", passAlpn: true",
                scene.providers_ca.display(),
                scene.provider.sha256(),
                next.sha256()
            ),
            Some(&edge),
        );
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    let mut manager = scene.manager(&router, &scene.servers_ca);
    let seen = manager.call().unwrap();
    assert_eq!((&seen["commonName"], &seen["sha256"]), (&"edge".into(), &edge.sha256().into()));
    manager.watch().unwrap();

    // Rotation of everything: the provider to its second pin, the edge, the certificate that managers see.
    scene.write_provider(&next);
    let (edge, serving) = (scene.edges.client("edge").unwrap(), scene.servers.server(&[NAME], KeyKind::Ecdsa).unwrap());
    write_secret(&router, &backend_client_dir(router.folder(), "virtrigaud"), &edge);
    write_secret(&router, &secret_dir(router.folder(), "virtrigaud", 0), &serving);
    router.log().wait_for(PATIENCE, &["certificate renewed", &serving.serial().unwrap()]).unwrap();
    let renewed = |answer: &Value| answer["sha256"] == edge.sha256();
    eventually(PATIENCE, "the provider sees the new certificate", || manager.call_anew().ok().filter(renewed)).unwrap();
    assert!(renewed(&manager.watch().unwrap()));

    // Not allowed: known to the authority, and no manager.
    scene.write_manager(&scene.managers.client("intern").unwrap());
    assert_eq!(manager.call_anew().unwrap()["error"], "UNAVAILABLE");
    router.log().wait_for(PATIENCE, &["audit", "client_certificate_not_allowed", "CN=intern"]).unwrap();
    scene.write_manager(&scene.manager);
    assert!(renewed(&manager.call_anew().unwrap()));

    // A provider whose certificate is right in everything but the pin.
    let unpinned = scene.providers.server(&[PROVIDER], KeyKind::Ecdsa).unwrap();
    scene.write_provider(&unpinned);
    eventually(PATIENCE, "the provider is not trusted", || {
        manager.call_anew().ok().filter(|answer| answer["error"] == "UNAVAILABLE")
    })
    .unwrap();
    router.log().wait_for(PATIENCE, &["audit", "backend refused", "pin_mismatch", &unpinned.sha256()]).unwrap();
    scene.write_provider(&next);
    eventually(PATIENCE, "the provider is trusted again", || manager.call_anew().ok().filter(renewed)).unwrap();
}

#[test]
fn what_goes_wrong_or_comes_to_its_end_raises_its_alert() {
    let (Some(python), Some(promtool)) =
        (require(Tool::GrpcIo, "alerts").unwrap(), require(Tool::PromTool, "alerts").unwrap())
    else {
        return;
    };
    let scene = Scene::new(python);
    let provider = scene.provider(&scene.edges_ca);
    let ten_days = Duration::from_secs(10 * 24 * 60 * 60);
    let serving = scene.servers.expiring_server(&[NAME], ten_days).unwrap();
    let tenant = Tenant::terminate("virtrigaud", &[NAME], provider.address(), &serving)
        .tls_line("alpn: [h2]")
        .tls_line(&format!("clientValidation: {{ mode: Required, ca: [{}] }}", scene.managers_ca.display()))
        .backend_tls(&format!("pins: [\"{}\"], passAlpn: true", "00".repeat(32)), None);
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    let before = samples(&router);
    let mut manager = scene.manager(&router, &scene.servers_ca);
    assert_eq!(manager.call().unwrap()["error"], "UNAVAILABLE");
    let labels = [("tenant", "virtrigaud"), ("reason", "pin_mismatch")];
    router.wait_for_metric("sni_terminator_backend_handshakes_total", &labels, 1.0).unwrap();
    router.log().wait_for(PATIENCE, &["WARN", "certificate expires soon", &serving.serial().unwrap()]).unwrap();

    // What was scraped, before and after, against the rules of deploy/.
    let after = samples(&router);
    let test = rule_test(&before, &after, &serving.serial().unwrap());
    let file = router.folder().join("alerts.test.yaml");
    std::fs::write(&file, &test).unwrap();
    let output = Command::new(promtool).args(["test", "rules"]).arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{test}");
}

/// The page's lines about certificates and TLS with backends: series and value.
fn samples(router: &RouterProcess) -> Vec<(String, f64)> {
    let page = router.admin_get("/metrics").unwrap().body;
    page.lines()
        .filter(|line| line.starts_with("sni_terminator_certificate") || line.starts_with("sni_terminator_backend"))
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// promtool's time begins at 0, so the ends of certificates become times to live.
fn rule_test(before: &[(String, f64)], after: &[(String, f64)], serial: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let mut text = format!(
        "rule_files: [{}]\ntests:\n  - interval: 1m\n    input_series:\n",
        workspace_folder().join("deploy/alerts.yaml").display()
    );
    for ((series, first), (_, last)) in before.iter().zip(after) {
        let origin = if series.contains("not_after") { now } else { 0.0 };
        text += &format!("      - {{ series: '{series}', values: '{} {}x200' }}\n", first - origin, last - origin);
    }
    text += "    promql_expr_test:\n";
    for (time, alert, labels) in [("3m", "BackendNotTrusted", "reason"), ("2h", "CertificateExpiringSoon", "serial")] {
        let value = if labels == "reason" { "pin_mismatch" } else { serial };
        text += &format!(
            "      - eval_time: {time}\n        expr: sum by (tenant, {labels}) \
             (ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}})\n        exp_samples:\n          - {{ labels: \
             '{{tenant=\"virtrigaud\", {labels}=\"{value}\"}}', value: 1 }}\n"
        );
    }
    text
}

/// The authorities, and the two programs' files.
struct Scene {
    python: PathBuf,
    folder: Scratch,
    servers: Authority,
    managers: Authority,
    providers: Authority,
    edges: Authority,
    strangers: Authority,
    servers_ca: PathBuf,
    managers_ca: PathBuf,
    providers_ca: PathBuf,
    edges_ca: PathBuf,
    manager: Identity,
    provider: Identity,
}

impl Scene {
    fn new(python: PathBuf) -> Self {
        let folder = Scratch::new().unwrap();
        let [servers, managers, providers, edges, strangers] =
            ["servers", "managers", "providers", "edges", "strangers"].map(|name| Authority::new(name).unwrap());
        let write = |name: &str, authority: &Authority| folder.write(name, authority.pem()).unwrap();
        Self {
            python,
            servers_ca: write("servers.crt", &servers),
            managers_ca: write("managers.crt", &managers),
            providers_ca: write("providers.crt", &providers),
            edges_ca: write("edges.crt", &edges),
            manager: managers.client("manager").unwrap(),
            // Under Passthrough it is asked for by the tenant's name, under Terminate by its own.
            provider: providers.server(&[PROVIDER, NAME], KeyKind::Ecdsa).unwrap(),
            folder,
            servers,
            managers,
            providers,
            edges,
            strangers,
        }
    }

    fn provider(&self, client_ca: &Path) -> Provider {
        let files = self.write_provider(&self.provider);
        Provider::start(&self.python, "libvirt", &files, client_ca).unwrap()
    }

    fn manager(&self, router: &RouterProcess, ca: &Path) -> Manager {
        let files = self.write_manager(&self.manager);
        Manager::start(&self.python, router.address(), NAME, ca, &files).unwrap()
    }

    fn write_provider(&self, identity: &Identity) -> PemFiles {
        identity.write_files(self.folder.path(), "provider").unwrap()
    }

    fn write_manager(&self, identity: &Identity) -> PemFiles {
        identity.write_files(self.folder.path(), "manager").unwrap()
    }
}

fn write_secret(router: &RouterProcess, folder: &Path, identity: &Identity) {
    let config = Config::load(router.folder().join("config.yaml")).unwrap();
    identity.write_secret_dir(folder, tenant_owner(&config, "virtrigaud").unwrap()).unwrap();
}

const NAME: &str = "provider.virtrigaud.test";
const PROVIDER: &str = "libvirt.internal.test";

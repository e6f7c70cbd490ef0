//! The Prometheus rules in deploy/: they fire when they should, and ask for metrics that there are.

use std::fs;
use std::process::Command;

use tests::authority::Authority;
use tests::binaries::workspace_folder;
use tests::client_tools::{Tool, require};
use tests::fakes::ShopWindow;
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};

use crate::two_tenants::{TERMINATE, TwoTenants};

#[test]
fn the_alert_rules_pass_their_own_tests() {
    let Some(promtool) = require(Tool::PromTool, "the alert rules").unwrap() else { return };
    let folder = workspace_folder().join("deploy");
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(&folder).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("SUCCESS"), "{text}");
    }
}

#[test]
fn every_metric_of_the_alert_rules_is_on_the_page() {
    let rules = fs::read_to_string(workspace_folder().join("deploy/alerts.yaml")).unwrap();
    let words = rules.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    let mut metrics: Vec<&str> = words.filter(|word| word.starts_with("sni_")).collect();
    metrics.sort_unstable();
    metrics.dedup();
    assert!(metrics.len() >= 3, "{metrics:?}");
    let tenants = TwoTenants::start();
    let scratch = Scratch::new().unwrap();
    let ca = scratch.write("clients.crt", Authority::new("clients").unwrap().pem()).unwrap();
    let tenant = Tenant::terminate("acme", &[TERMINATE], tenants.terminate_backend.address(), &tenants.acme)
        .backend_named("localhost", tenants.terminate_backend.address().port())
        .tls_line(&format!("clientValidation: {{ mode: Optional, ca: [{}] }}", ca.display()))
        .backend_tls(&format!("pins: [\"{}\"]", "00".repeat(32)), None);
    let shown = ShopWindow::start(&tenants.acme, None, 0).unwrap();
    let probed = Tenant::passthrough("probed", &["probed.test"], shown.address()).line("certificateProbe: 1h");
    let router = RouterProcess::start_in(scratch, Setup::new().tenant(tenant).tenant(probed)).unwrap();
    router.wait_for_metric("sni_router_certificate_probe_ok", &[("tenant", "probed")], 1.0).unwrap();
    router.wait_for_metric("sni_router_name_answered", &[("name", "localhost")], 1.0).unwrap();
    let page = router.metrics().unwrap();
    for metric in metrics {
        let labels: &[_] = match metric {
            "sni_router_certificate_prober_up" => &[],
            name if name.starts_with("sni_router_name_") => &[("name", "localhost")],
            name if name.contains("certificate") && name.starts_with("sni_router_") => &[("tenant", "probed")],
            _ => &[("tenant", "acme")],
        };
        assert!(page.has(metric, labels), "{metric} is not on the page");
    }
}

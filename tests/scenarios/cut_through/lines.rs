//! The access log's lines about carried connections, whoever began them: all that a relayed connection's line has.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::patience::{PATIENCE, eventually};

use super::plan::{PLAN, PROTOCOLS, Plan, hello};
use super::site::NAME;

/// Waits for a line of each of these connections to the first tenant, which ended well, and looks at every field.
pub(super) fn expect(stdout: impl Fn() -> anyhow::Result<String>, plans: &[Plan]) {
    let of_plans = || {
        let ours = |line: &Value| line["data_path"] == "cut_through" && line["server_name"] == NAME;
        let text = stdout().ok()?;
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(ours).collect();
        (lines.len() >= plans.len()).then_some(lines)
    };
    let lines = eventually(PATIENCE, "a line for each connection", of_plans)
        .unwrap_or_else(|error| panic!("{error}\n{}", stdout().unwrap_or_default()));
    assert_eq!(lines.len(), plans.len());
    let prefix = (hello(NAME).records().len() + PLAN) as u64;
    let expected: BTreeSet<_> =
        plans.iter().map(|plan| (plan.client_to_backend + prefix, plan.backend_to_client)).collect();
    let bytes = |line: &Value| Some((line["client_to_backend"].as_u64()?, line["backend_to_client"].as_u64()?));
    assert_eq!(lines.iter().filter_map(bytes).collect::<BTreeSet<_>>(), expected);
    for line in &lines {
        whole(line);
        assert_eq!((&line["tenant"], &line["outcome"]), (&"four".into(), &"ok".into()), "{line}");
    }
}

/// Everything but tenant and end.
pub(super) fn whole(line: &Value) {
    assert_eq!((&line["listener"], &line["mode"]), (&"tls".into(), &"passthrough".into()), "{line}");
    assert_eq!((&line["server_name"], &line["data_path"]), (&NAME.into(), &"cut_through".into()), "{line}");
    assert_eq!(line["alpn"], Value::from(PROTOCOLS.to_vec()), "{line}");
    // The fingerprint's first part: over TCP, TLS 1.3, with a name, the first ALPN value.
    assert!(line["ja4"].as_str().is_some_and(|ja4| ja4.starts_with("t13d") && ja4[..10].ends_with("h2")), "{line}");
    assert!(line["ja4"].as_str().is_some_and(|ja4| ja4.len() == 36), "{line}");
    for address in ["client", "backend"] {
        assert!(line[address].is_string(), "{line}");
    }
    for duration in ["hello_ms", "connect_ms", "total_ms"] {
        assert!(line[duration].as_f64().is_some_and(|milliseconds| milliseconds > 0.0), "{line}");
    }
}

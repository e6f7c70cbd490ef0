//! Large files load in time that grows with their size and not faster.

use std::fmt::Write;
use std::time::{Duration, Instant};

use config::Config;

#[test]
fn a_million_hostnames_load() {
    let mut text = String::from("listeners: [{ name: tls, address: \"[::]:443\" }]\ntenants:\n");
    text.push_str(
        "  - name: big\n    mode: Passthrough\n    backends: [{ address: \"10.0.0.1:443\" }]\n    hostnames:\n",
    );
    for number in 0..1_000_000 {
        writeln!(text, "      - host-{number}.tenant.example").unwrap();
    }
    let config = timed("1,000,000 hostnames", &text);
    assert_eq!(config.tenants[0].hostnames.len(), 1_000_000);
}

#[test]
fn a_full_uid_range_of_tenants_loads() {
    let mut text =
        String::from("uidRange: [1000000, 1019999]\nlisteners: [{ name: tls, address: \"[::]:443\" }]\ntenants:\n");
    for number in 0..20_000 {
        writeln!(
            text,
            "  - name: tenant-{number}\n    hostnames: [a{number}.example, \"*.b{number}.example\"]\n    mode: Terminate\n    \
             tls:\n      certificates:\n        - {{ secretDir: /etc/tenants/{number} }}\n    \
             backends: [{{ address: \"10.0.0.1:443\" }}]"
        )
        .unwrap();
    }
    let config = timed("20,000 tenants with every uid of a range of 20,000", &text);
    assert_eq!(config.tenants.len(), 20_000);
}

#[track_caller]
fn timed(what: &str, text: &str) -> Config {
    let began = Instant::now();
    let config = Config::from_yaml(text).unwrap_or_else(|errors| panic!("{errors}"));
    let took = began.elapsed();
    println!("{what}, {} MB of YAML: {took:.1?}", text.len() / 1_000_000);
    // Generous for a debug build on a busy machine; a quadratic check would take hours.
    assert!(took < Duration::from_secs(120), "{took:?}");
    config
}

//! The texts that the tests start from.

use config::Config;

/// Right in everything; the tests spoil one place and compare the whole message.
pub(crate) const BASE: &str = r#"user: 1000
listeners:
  - name: tls
    address: "[::]:443"
    onUnmatched: Reject
tenants:
  - name: pinniped
    hostnames: ["k8s.corp.example"]
    mode: Passthrough
    backends: [{ address: "10.2.0.9:443" }]
  - name: acme
    hostnames: ["api.acme.example", "*.acme.example"]
    mode: Terminate
    tls:
      certificates:
        - { secretDir: /etc/tenants/acme }
    backends: [{ address: "10.1.0.5:8443" }]
"#;

/// Asserts that [`BASE`] with one place replaced gives exactly these lines.
#[track_caller]
pub(crate) fn spoiled(place: &str, replacement: &str, lines: &[&str]) {
    assert_eq!(BASE.matches(place).count(), 1, "{place:?} is not one place of the text");
    let text = BASE.replace(place, replacement);
    let rendered = match Config::from_yaml(&text) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    };
    assert_eq!(rendered.lines().collect::<Vec<_>>(), lines, "\n{text}");
}

/// [`BASE`] with one place replaced, which is right too.
#[track_caller]
pub(crate) fn changed(place: &str, replacement: &str) -> Config {
    assert_eq!(BASE.matches(place).count(), 1, "{place:?} is not one place of the text");
    Config::from_yaml(&BASE.replace(place, replacement)).unwrap_or_else(|errors| panic!("{errors}"))
}

//! The example of the contract, and the smallest files that do something.

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{
    AccessLogPath, CertificateSource, ClientAddress, ClientTrust, ClientValidation, Config, DataPath, Fallback,
    LoadError, Mode, PerSource, SandboxPolicy, Startup, Terminate, TlsVersion, User,
};

use crate::texts::{BASE, changed, spoiled};

#[test]
fn the_whole_contract_is_known() {
    let config = Config::load("tests/files/design.yaml").unwrap();
    let terminate = terminate(&config, "acme");
    assert_eq!(terminate.startup, Startup::Always);
    assert_eq!(terminate.sandbox.memory_max, Some(128 << 20));
}

#[test]
fn a_terminator_starts_with_the_router_or_by_a_connection() {
    let startup = |lines: &str| {
        let config = changed("mode: Terminate", &format!("mode: Terminate\n    {lines}"));
        terminate(&config, "acme").startup
    };
    assert_eq!(startup("startup: Always"), Startup::Always);
    assert_eq!(startup("startup: OnDemand"), Startup::OnDemand { idle_stop: Duration::from_secs(600) });
    let soon = startup("startup: OnDemand\n    idleStop: 1s");
    assert_eq!(soon, Startup::OnDemand { idle_stop: Duration::from_secs(1) });
    spoiled(
        "mode: Terminate",
        "mode: Terminate\n    startup: OnDemand\n    idleStop: 1ms\n    sandbox: { memoryMax: 1MiB }",
        &[
            "15:15: tenants[1].idleStop: is 1ms, and must be from 100ms to 168h",
            "16:27: tenants[1].sandbox.memoryMax: is less than 16MiB, with which no terminator serves well",
        ],
    );
}

#[test]
fn certificates_of_passthrough_backends_are_probed_where_that_is_wished_for() {
    let every = |text: &str| {
        let config = changed("mode: Passthrough", &format!("mode: Passthrough\n    certificateProbe: {text}"));
        config.tenants[0].certificate_probe
    };
    assert_eq!(every("1h"), Some(Duration::from_secs(3600)));
    assert_eq!(every("1s"), Some(Duration::from_secs(1)));
    spoiled(
        "mode: Passthrough",
        "mode: Passthrough\n    certificateProbe: 30h",
        &["10:23: tenants[0].certificateProbe: is 30h, and must be from 1s to 24h"],
    );
    spoiled(
        "mode: Terminate",
        "mode: Terminate\n    certificateProbe: 1h",
        &[
            "14:5: tenants[1].certificateProbe: is only for mode Passthrough: a terminator watches the certificates that it \
           serves with",
        ],
    );
}

#[test]
fn values_that_come_later_are_refused_where_they_stand() {
    spoiled(
        "{ secretDir: /etc/tenants/acme }",
        "{ acme: { directory: \"https://acme.example\" } }",
        &["16:13: tenants[1].tls.certificates[0].acme: not available yet"],
    );
}

#[test]
fn the_minimal_file_gets_the_documented_defaults() {
    let config = Config::load("tests/files/minimal.yaml").unwrap();
    assert_eq!(config.runtime_dir, Path::new("/run/sni-router"));
    assert_eq!((config.workers, config.user.as_ref()), (None, None));
    assert_eq!((config.uid_range.first, config.uid_range.last), (61184, 65519));
    assert_eq!(config.data_path, DataPath::Auto);
    assert_eq!((config.admin, config.access_log.as_ref()), (None, None));

    let listener = &config.listeners[0];
    assert_eq!((listener.name.as_str(), listener.address.to_string()), ("tls", "[::]:443".to_owned()));
    assert_eq!(listener.client_hello.timeout, Duration::from_secs(5));
    assert_eq!(listener.client_hello.max_bytes, 65536);
    assert_eq!((listener.on_no_server_name, listener.on_unmatched), (Fallback::Reject, Fallback::Reject));
    assert_eq!(listener.max_connections, 100_000);

    let [pinniped, acme] = config.tenants.as_slice() else { panic!("{config:?}") };
    assert_eq!((pinniped.name.as_str(), &pinniped.mode), ("pinniped", &Mode::Passthrough));
    assert_eq!(pinniped.backends[0].address.to_string(), "10.2.0.9:443");
    assert_eq!(pinniped.connect_timeout, Duration::from_secs(3));
    assert_eq!(pinniped.idle_timeout, Duration::from_secs(600));
    assert_eq!(pinniped.drain_timeout, Duration::from_secs(30));

    let names: Vec<String> = acme.hostnames.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["api.acme.example", "*.acme.example"]);
    assert_eq!(acme.backends[0].address.to_string(), "[2001:db8::5]:8443");
    let terminate = terminate(&config, "acme");
    assert_eq!(
        terminate.certificates,
        [
            CertificateSource::SecretDir(PathBuf::from("/etc/tenants/acme")),
            CertificateSource::Files {
                certificate: PathBuf::from("/etc/acme/rsa.crt"),
                key: PathBuf::from("/etc/acme/rsa.key"),
            },
        ]
    );
    assert_eq!((terminate.min_version, terminate.alpn.len()), (TlsVersion::V1_2, 0));
    assert_eq!(terminate.client_validation, ClientValidation::None);
}

#[test]
fn what_is_written_wins_over_the_defaults() {
    let config = changed(
        "user: 1000\n",
        "runtimeDir: target/demo/run\nworkers: 3\nuser: nobody\nuidRange: [100000, 100009]\ndataPath: Splice\n\
         sandbox: { policy: BestEffort }\nadmin: { address: \"127.0.0.1:0\" }\naccessLog: { path: \"-\", format: Json }\n",
    );
    assert_eq!(config.runtime_dir, Path::new("target/demo/run"));
    assert_eq!(config.workers.unwrap().get(), 3);
    assert_eq!(config.user, Some(User::Name("nobody".to_owned())));
    assert_eq!((config.uid_range.first, config.uid_range.last), (100_000, 100_009));
    assert_eq!((config.data_path, config.access_log), (DataPath::Splice, Some(AccessLogPath::Stdout)));
    assert_eq!(config.admin.unwrap().to_string(), "127.0.0.1:0");

    let config = changed(
        "onUnmatched: Reject",
        "onUnmatched: acme\n    onNoServerName: pinniped\n    clientHello: { timeout: 250ms, maxBytes: 4096 }\n    \
         clients: { allow: [\"::/0\"], deny: [\"192.0.2.0/24\"] }\n    maxConnections: 7\n    \
         perSource: { maxConnections: 50, connectionRate: 20, ipv4Prefix: 24 }",
    );
    let listener = &config.listeners[0];
    assert_eq!((listener.on_unmatched, listener.on_no_server_name), (Fallback::Tenant(1), Fallback::Tenant(0)));
    assert_eq!((listener.client_hello.timeout, listener.client_hello.max_bytes), (Duration::from_millis(250), 4096));
    assert_eq!((listener.clients.allow[0].to_string(), listener.max_connections), ("::/0".to_owned(), 7));
    assert_eq!(listener.clients.deny[0].to_string(), "192.0.2.0/24");
    let per_source =
        PerSource { max_connections: Some(50), connection_rate: Some(20), ipv4_prefix: 24, ipv6_prefix: 64 };
    assert_eq!(listener.per_source, Some(per_source));

    let config = changed(
        "        - { secretDir: /etc/tenants/acme }",
        "        - { secretDir: /a }\n      minVersion: \"1.3\"\n      alpn: [h2, http/1.1]\n      \
         clientValidation: { mode: Optional, ca: [/ca.crt], crl: [/ca.crl] }\n    connectTimeout: 1s\n    idleTimeout: 1h30m\n    \
         drainTimeout: 0s\n    startup: Always",
    );
    let terminate = terminate(&config, "acme");
    assert_eq!((terminate.min_version, terminate.alpn.join(" ")), (TlsVersion::V1_3, "h2 http/1.1".to_owned()));
    let trust = ClientTrust { ca: vec!["/ca.crt".into()], crl: vec!["/ca.crl".into()], ..ClientTrust::default() };
    assert_eq!(terminate.client_validation, ClientValidation::Optional(trust));
    let tenant = config.tenant("acme").unwrap();
    assert_eq!((tenant.connect_timeout, tenant.idle_timeout), (Duration::from_secs(1), Duration::from_secs(5400)));
    assert_eq!(tenant.drain_timeout, Duration::ZERO);
}

#[test]
fn names_are_backends_and_the_resolver_has_bounds() {
    let config = changed(
        "{ address: \"10.2.0.9:443\" }",
        "{ address: \"10.2.0.9:443\" }, { address: \"Svc.ns.svc:443\", weight: 3 }",
    );
    assert_eq!(config.tenants[0].backends[1].address.to_string(), "svc.ns.svc:443");
    assert!(config.resolver.servers.is_empty());
    assert_eq!((config.resolver.min_ttl.as_secs(), config.resolver.max_ttl.as_secs()), (1, 300));
    let config = changed("user: 1000", "resolver: { servers: [10.96.0.10, \"[::1]:5353\"], minTtl: 2s, maxTtl: 10s }");
    let servers: Vec<String> = config.resolver.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.96.0.10:53", "[::1]:5353"]);
    assert_eq!((config.resolver.min_ttl.as_secs(), config.resolver.max_ttl.as_secs()), (2, 10));
    let at = |line: &str, messages: &[&str]| spoiled("user: 1000", line, messages);
    at("resolver: { minTtl: 10m }", &["1:21: resolver.minTtl: leaves maxTtl below minTtl"]);
    at("resolver: { maxTtl: 100ms }", &["1:21: resolver.maxTtl: leaves maxTtl below minTtl"]);
    at("resolver: { maxTtl: 0s }", &["1:21: resolver.maxTtl: is 0s, and must be from 10ms to 24h"]);
}

#[test]
fn backends_of_both_modes_can_see_the_clients_address() {
    let config = changed("mode: Passthrough", "mode: Passthrough\n    clientAddress: Transparent");
    assert_eq!(config.tenants[0].client_address, ClientAddress::Transparent);
    assert_eq!(config.tenants[1].client_address, ClientAddress::Router);
    assert!(config.has_transparent_tenants() && !changed("user: 1000", "workers: 1").has_transparent_tenants());
    let config = changed("mode: Terminate", "mode: Terminate\n    clientAddress: Transparent");
    assert_eq!(config.tenants[1].client_address, ClientAddress::Transparent);
    assert!(config.has_transparent_tenants());
}

#[test]
fn a_tenants_sandbox_policy_overrides_that_of_the_file() {
    let config = changed("user: 1000", "workers: 1");
    assert_eq!((config.sandbox_policy, terminate(&config, "acme").sandbox.policy), (SandboxPolicy::BestEffort, None));
    assert_eq!(changed("user: 1000", "sandbox: { policy: Required }").sandbox_policy, SandboxPolicy::Required);
    let config = changed("mode: Terminate", "mode: Terminate\n    sandbox: { policy: Required }");
    assert_eq!(terminate(&config, "acme").sandbox.policy, Some(SandboxPolicy::Required));
}

#[test]
fn a_fallback_tenant_needs_no_hostnames() {
    let text = BASE.replace("onUnmatched: Reject", "onUnmatched: pinniped").replace("[\"k8s.corp.example\"]", "[]");
    assert!(Config::from_yaml(&text).unwrap().tenants[0].hostnames.is_empty());
}

#[test]
fn anchors_aliases_and_merges_work_and_null_is_unset() {
    let config = changed("user: 1000", "workers: null\nuser: ~");
    assert_eq!((config.workers, config.user), (None, None));
    let text = BASE
        .replace("backends: [{ address: \"10.2.0.9:443\" }]", "backends: &b [{ address: \"10.2.0.9:443\" }]")
        .replace("backends: [{ address: \"10.1.0.5:8443\" }]", "backends: *b");
    assert_eq!(Config::from_yaml(&text).unwrap().tenants[1].backends[0].address.to_string(), "10.2.0.9:443");
    let text = BASE
        .replace("mode: Passthrough\n", "mode: Passthrough\n    <<: &times { idleTimeout: 1m }\n")
        .replace("mode: Terminate\n", "mode: Terminate\n    <<: *times\n");
    assert_eq!(Config::from_yaml(&text).unwrap().tenants[1].idle_timeout, Duration::from_secs(60));
}

#[test]
fn a_thousand_tenants_share_one_template() {
    let mut text =
        BASE.replace("backends: [{ address: \"10.2.0.9:443\" }]", "backends: &b [{ address: \"10.2.0.9:443\" }]");
    for number in 0..1000 {
        text.push_str(&format!(
            "  - name: t{number}\n    hostnames: [t{number}.example]\n    mode: Passthrough\n    backends: *b\n"
        ));
    }
    assert_eq!(Config::from_yaml(&text).unwrap().tenants.len(), 1002);
}

#[test]
fn a_file_that_cannot_be_read_says_which() {
    let error = Config::load("/nonexistent/sni.yaml").unwrap_err();
    assert!(matches!(error, LoadError::Read { .. }));
    assert_eq!(error.to_string(), "read /nonexistent/sni.yaml: No such file or directory (os error 2)");
}

fn terminate<'c>(config: &'c Config, name: &str) -> &'c Terminate {
    match &config.tenant(name).unwrap().mode {
        Mode::Terminate(terminate) => terminate,
        Mode::Passthrough => panic!("{name} is not terminated"),
    }
}

//! Files whose fields are right by themselves and wrong together or out of bounds.

use std::time::Duration;

use config::{Balance, HealthCheck, ProxyProtocol, ProxyTlv, ProxyVersion, TenantLimits};

use crate::texts::{changed, spoiled};

#[test]
fn a_hostname_has_one_tenant() {
    spoiled(
        "\"api.acme.example\"",
        "\"K8S.corp.example.\"",
        &["12:17: tenants[1].hostnames[0]: `k8s.corp.example` is claimed by tenant `acme` and, at 8:17, by tenant \
           `pinniped`: a name has one tenant"],
    );
    spoiled(
        "\"api.acme.example\"",
        "\"*.ACME.example\"",
        &["12:35: tenants[1].hostnames[1]: `*.acme.example` is already listed at 12:17"],
    );
}

#[test]
fn names_and_addresses_are_given_once() {
    spoiled(
        "name: acme",
        "name: pinniped",
        &["11:11: tenants[1].name: `pinniped` is already the name of the tenant at 7:11"],
    );
    spoiled(
        "    onUnmatched: Reject",
        "  - name: tls\n    address: \"[0::0]:443\"",
        &[
            "5:11: listeners[1].name: `tls` is already the name of the listener at 3:11",
            "6:14: listeners[1].address: `[::]:443` is already the address of a listener at 4:14",
        ],
    );
    spoiled(
        "user: 1000",
        "admin: { address: \"[::]:443\" }",
        &["4:14: listeners[0].address: `[::]:443` is already the address of the admin endpoint at 1:19"],
    );
    for name in ["Acme", "a.b", "-a", "a-", "a/b", "", "ä"] {
        let message = format!(
            "11:11: tenants[1].name: `{name}` is no name: use 1 to 63 of a-z, 0-9 and -, with no - at the ends"
        );
        spoiled("name: acme", &format!("name: \"{name}\""), &[message.as_str()]);
    }
}

#[test]
fn passthrough_has_no_terminator_to_configure() {
    spoiled(
        "mode: Passthrough",
        "mode: Passthrough\n    tls: { certificates: [{ secretDir: /a }] }\n    sandbox: { uid: 5 }\n    \
         startup: Always\n    idleStop: 1m\n    backendTls: { ca: [/ca.crt] }",
        &[
            "10:5: tenants[0].tls: is only for mode Terminate, and this tenant's mode is Passthrough: remove it",
            "11:5: tenants[0].sandbox: is only for mode Terminate, and this tenant's mode is Passthrough: remove it",
            "12:5: tenants[0].startup: is only for mode Terminate, and this tenant's mode is Passthrough: remove it",
            "13:5: tenants[0].idleStop: is only for mode Terminate, and this tenant's mode is Passthrough: remove it",
            "14:5: tenants[0].backendTls: is only for mode Terminate, and this tenant's mode is Passthrough: remove it",
        ],
    );
}

#[test]
fn terminate_needs_certificates() {
    spoiled(
        "mode: Passthrough",
        "mode: Terminate",
        &["7:5: tenants[0].tls.certificates: is missing: mode Terminate needs a certificate, such as \
           `{ secretDir: /etc/tenants/acme }`"],
    );
    spoiled(
        "      certificates:\n        - { secretDir: /etc/tenants/acme }",
        "      certificates: []",
        &["15:21: tenants[1].tls.certificates: is empty: it needs at least one element"],
    );
    spoiled(
        "      certificates:\n        - { secretDir: /etc/tenants/acme }",
        "      alpn: [h2, h2, \"\"]",
        &[
            "15:7: tenants[1].tls.certificates: is missing",
            "15:18: tenants[1].tls.alpn[1]: `h2` is listed twice",
            "15:22: tenants[1].tls.alpn[2]: `` is no protocol: write 1 to 255 bytes",
        ],
    );
    spoiled(
        "{ secretDir: /etc/tenants/acme }",
        "{}\n        - { secretDir: /a, key: /b }\n        - { key: /b }\n        - { secretDir: \"\" }",
        &[
            "16:11: tenants[1].tls.certificates[0]: has no source: write `secretDir`, or `certificate` and `key`, or \
             `generate: true`",
            "17:11: tenants[1].tls.certificates[1]: has two sources: keep `secretDir`, or `certificate` and `key`",
            "18:11: tenants[1].tls.certificates[2].certificate: is missing",
            "19:24: tenants[1].tls.certificates[3].secretDir: is empty: write a path",
        ],
    );
}

#[test]
fn client_validation_needs_its_cas_and_only_then() {
    let place = "      certificates:";
    spoiled(
        place,
        "      clientValidation: { mode: Required }\n      certificates:",
        &["15:25: tenants[1].tls.clientValidation.ca: mode Required needs at least one CA file that client \
           certificates must come from"],
    );
    spoiled(
        place,
        "      clientValidation: { mode: Optional, ca: [] }\n      certificates:",
        &["15:47: tenants[1].tls.clientValidation.ca: mode Optional needs at least one CA file that client \
           certificates must come from"],
    );
    spoiled(
        place,
        "      clientValidation: { mode: None, ca: [/ca.crt] }\n      certificates:",
        &["15:39: tenants[1].tls.clientValidation.ca: is of no use with mode None: remove it, or choose Optional or \
           Required"],
    );
    spoiled(
        place,
        "      clientValidation: { ca: [/ca.crt] }\n      certificates:",
        &["15:25: tenants[1].tls.clientValidation.mode: is missing"],
    );
}

#[test]
fn a_fallback_is_a_tenant() {
    spoiled(
        "onUnmatched: Reject",
        "onUnmatched: reject",
        &["5:18: listeners[0].onUnmatched: `reject` is no tenant: write a tenant's name or `Reject`"],
    );
    spoiled(
        "onUnmatched: Reject",
        "onNoServerName: globex",
        &["5:21: listeners[0].onNoServerName: `globex` is no tenant: write a tenant's name or `Reject`"],
    );
    spoiled(
        "[\"k8s.corp.example\"]",
        "[]",
        &[
            "8:16: tenants[0].hostnames: claims no name: add one, or name this tenant in a listener's onNoServerName or \
           onUnmatched",
        ],
    );
}

#[test]
fn hostnames_are_names() {
    spoiled(
        "[\"k8s.corp.example\"]",
        "[\"a.*.example\", 10.0.0.1, \"a.example:443\", a..example, _a.example]",
        &[
            "8:17: tenants[0].hostnames[0]: `a.*.example` has `*` in a wrong place: it can only be the whole first \
             label, as in `*.example.com`",
            "8:32: tenants[0].hostnames[1]: `10.0.0.1` is an IP address, and server names never are: write a DNS name",
            "8:42: tenants[0].hostnames[2]: `a.example:443` has a port: write the name alone, ports belong to listeners",
            "8:59: tenants[0].hostnames[3]: `a..example` has an empty label: remove the extra dot",
        ],
    );
}

#[test]
fn addresses_and_prefixes_are_whole() {
    spoiled("\"[::]:443\"", "\"::\"", &["4:14: listeners[0].address: `::` has no port: write `[::]:443`"]);
    spoiled(
        "\"10.2.0.9:443\"",
        "10.2.0.9",
        &["10:27: tenants[0].backends[0].address: `10.2.0.9` has no port: write `10.2.0.9:443`"],
    );
    spoiled(
        "onUnmatched: Reject",
        "clients: { allow: [10.1.2.3/8, 10.0.0.1], deny: [\"::/129\", all] }",
        &[
            "5:24: listeners[0].clients.allow[0]: `10.1.2.3/8` has bits set after the prefix: write `10.0.0.0/8`",
            "5:36: listeners[0].clients.allow[1]: `10.0.0.1` has no prefix length: write `10.0.0.1/32`",
            "5:54: listeners[0].clients.deny[0]: `::/129` has a prefix length that is not from 0 to 128",
            "5:64: listeners[0].clients.deny[1]: expected a prefix such as 192.0.2.0/24, found `all`",
        ],
    );
}

#[test]
fn numbers_and_durations_have_bounds() {
    spoiled("user: 1000", "workers: 0", &["1:10: workers: is 0, and must be from 1 to 1024"]);
    spoiled(
        "onUnmatched: Reject",
        "clientHello: { timeout: 1ms, maxBytes: 100 }\n    maxConnections: 0",
        &[
            "5:29: listeners[0].clientHello.timeout: is 1ms, and must be from 10ms to 5m",
            "5:44: listeners[0].clientHello.maxBytes: is 100, and must be from 512 to 262144",
            "6:21: listeners[0].maxConnections: is 0, and must be from 1 to 4294967295",
        ],
    );
    spoiled(
        "onUnmatched: Reject",
        "perSource: { maxConnections: 0, connectionRate: 0, ipv4Prefix: 33, ipv6Prefix: 0 }",
        &[
            "5:34: listeners[0].perSource.maxConnections: is 0, and must be from 1 to 4294967295",
            "5:53: listeners[0].perSource.connectionRate: is 0, and must be from 1 to 4294967295",
            "5:68: listeners[0].perSource.ipv4Prefix: is 33, and must be from 1 to 32",
            "5:84: listeners[0].perSource.ipv6Prefix: is 0, and must be from 1 to 128",
        ],
    );
    spoiled(
        "onUnmatched: Reject",
        "perSource: { ipv4Prefix: 24 }",
        &["5:16: listeners[0].perSource: needs `maxConnections` or `connectionRate`: without them it bounds nothing"],
    );
    spoiled(
        "mode: Passthrough",
        "mode: Passthrough\n    connectTimeout: 0s\n    idleTimeout: 169h\n    drainTimeout: 25h",
        &[
            "10:21: tenants[0].connectTimeout: is 0s, and must be from 10ms to 5m",
            "11:18: tenants[0].idleTimeout: is 169h, and must be from 100ms to 168h",
            "12:19: tenants[0].drainTimeout: is 25h, and must be from 0s to 24h",
        ],
    );
}

#[test]
fn the_kernel_s_own_bounds_hold_for_silent_peers() {
    spoiled(
        "mode: Passthrough",
        "mode: Passthrough\n    tcp: { keepalive: { after: 1500ms, interval: 10h, probes: 128 }, userTimeout: 10ms }",
        &[
            "10:32: tenants[0].tcp.keepalive.after: must be in whole seconds: the kernel counts no others",
            "10:50: tenants[0].tcp.keepalive.interval: is 10h, and must be from 1s to 9h6m7s",
            "10:63: tenants[0].tcp.keepalive.probes: is 128, and must be from 1 to 127",
            "10:83: tenants[0].tcp.userTimeout: is 10ms, and must be from 1s to 24h",
        ],
    );
}

#[test]
fn all_errors_of_a_file_come_in_its_order() {
    spoiled(
        "user: 1000\nlisteners:\n  - name: tls\n    address: \"[::]:443\"\n    onUnmatched: Reject",
        "usr: 1000\nworkers: 0\nlisteners:\n  - name: TLS\n    address: nowhere\n    onUnmatched: globex\n    proxyProtocol: {}",
        &[
            "1:1: usr: unknown field: did you mean `user`?",
            "2:10: workers: is 0, and must be from 1 to 1024",
            "4:11: listeners[0].name: `TLS` is no name: use 1 to 63 of a-z, 0-9 and -, with no - at the ends",
            "5:14: listeners[0].address: expected an IP address and port, such as `10.2.0.9:443` or `[::1]:443`, \
             found `nowhere`",
            "6:18: listeners[0].onUnmatched: `globex` is no tenant: write a tenant's name or `Reject`",
            "7:20: listeners[0].proxyProtocol.from: is missing",
        ],
    );
}

#[test]
fn backends_have_bounds_and_differ() {
    let backends = "[{ address: \"10.2.0.9:443\" }]";
    spoiled(
        backends,
        "[{ address: \"10.2.0.9:443\", weight: 257 }, { address: \"10.2.0.10:443\", weight: 0 }]",
        &["10:51: tenants[0].backends[0].weight: is 257, and must be from 0 to 256"],
    );
    spoiled(
        backends,
        "[{ address: \"10.2.0.9:443\", weight: 0 }]",
        &["10:15: tenants[0].backends: gives every backend a weight of 0: nobody would get a connection"],
    );
    spoiled(
        backends,
        "[{ address: \"10.2.0.9:443\" }, { address: \"10.2.0.9:443\" }]",
        &["10:45: tenants[0].backends[1]: `10.2.0.9:443` is already listed at 10:16: give that one a weight"],
    );
    spoiled(
        backends,
        "[{ address: \"10.2.0.9:443\" }]\n    balance: Fastest\n    healthCheck: { interval: 1ms, healthyAfter: 0 }",
        &[
            "11:14: tenants[0].balance: unknown value `Fastest`: `LeastConnections`, `RoundRobin`, `Random` or \
             `SourceHash`",
            "12:30: tenants[0].healthCheck.interval: is 1ms, and must be from 10ms to 24h",
            "12:49: tenants[0].healthCheck.healthyAfter: is 0, and must be from 1 to 1000",
        ],
    );
}

#[test]
fn backends_and_their_checks_are_as_written_or_as_documented() {
    let backends = "[{ address: \"10.2.0.9:443\" }]";
    let pinniped =
        changed(backends, "[{ address: \"10.2.0.9:443\" }]\n    healthCheck: { healthyAfter: 1 }").tenants.remove(0);
    assert_eq!((pinniped.balance, pinniped.backends[0].weight), (Balance::LeastConnections, 1));
    let seconds = Duration::from_secs;
    let check = HealthCheck { interval: seconds(5), timeout: seconds(2), unhealthy_after: 3, healthy_after: 1 };
    assert_eq!(pinniped.health_check, Some(check));
    let several =
        "[{ address: \"10.2.0.9:443\", weight: 3 }, { address: \"[2001:db8::9]:443\" }]\n    balance: SourceHash";
    let pinniped = changed(backends, several).tenants.remove(0);
    assert_eq!((pinniped.balance, pinniped.health_check), (Balance::SourceHash, None));
    assert_eq!(pinniped.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn a_port_of_a_prefix_is_steered_once() {
    spoiled(
        "onUnmatched: Reject",
        "onUnmatched: Reject\n    steer: [\"10.0.0.0/8:1-99\", \"10.0.0.0/8:99\", \"10.0.0.0/9:99\", \"[::/0]:443\"]",
        &["6:32: listeners[0].steer[1]: ports of `10.0.0.0/8` are already listed at 6:13"],
    );
    spoiled(
        "onUnmatched: Reject",
        "onUnmatched: Reject\n    steer: [\"10.0.0.0/8:1-99\"]\n  - name: v4\n    address: 127.0.0.1:80\n    steer: [\"10.0.0.0/8:80-443\"]",
        &["9:13: listeners[1].steer[0]: ports of `10.0.0.0/8` are steered to listener `v4` and, at 6:13, to listener \
             `tls`: a port has one"],
    );
}

#[test]
fn steering_does_not_take_what_another_listens_on() {
    let second = "onUnmatched: Reject\n  - name: v4\n    address: 127.0.0.1:80\n    steer: ";
    spoiled(
        "onUnmatched: Reject",
        &format!("{second}[\"127.0.0.1:80\", \"[::/0]:443\"]"),
        &["8:29: listeners[1].steer[1]: IPv6 cannot be steered to the IPv4 address `127.0.0.1:80`: \
             listen on `[::]:80`"],
    );
    spoiled(
        "onUnmatched: Reject",
        "onUnmatched: Reject\n    steer: [\"127.0.0.1:80-90\"]\n  - name: v4\n    address: 127.0.0.1:85",
        &["6:13: listeners[0].steer[0]: takes the address of listener `v4` at 8:14"],
    );
}

#[test]
fn a_proxy_header_tells_only_what_is_known() {
    let backends = "[{ address: \"10.2.0.9:443\" }]";
    spoiled(
        backends,
        "[{ address: \"10.2.0.9:443\" }]\n    proxyProtocol: { version: v1, tlvs: [authority] }",
        &["11:41: tenants[0].proxyProtocol.tlvs: is only for version v2: a v1 header has no room for them"],
    );
    spoiled(
        backends,
        "[{ address: \"10.2.0.9:443\" }]\n    proxyProtocol: { version: v2, tlvs: [authority, alpn, groups] }",
        &[
            "11:53: tenants[0].proxyProtocol.tlvs[1]: is only for mode Terminate: what passes through is not known to \
             the router",
            "11:59: tenants[0].proxyProtocol.tlvs[2]: is only for mode Terminate: what passes through is not known to \
             the router",
        ],
    );
    let pinniped =
        changed(backends, "[{ address: \"10.2.0.9:443\" }]\n    proxyProtocol: { version: v2, tlvs: [crc32c] }");
    let expected = ProxyProtocol { version: ProxyVersion::V2, tlvs: vec![ProxyTlv::Crc32c] };
    assert_eq!(pinniped.tenants[0].proxy_protocol, Some(expected));
    let trusting = changed("    onUnmatched: Reject", "    proxyProtocol: { from: [10.0.0.0/8] }");
    assert_eq!(trusting.listeners[0].proxy_protocol_from, ["10.0.0.0/8".parse().unwrap()]);
}

#[test]
fn limits_are_above_zero_and_handshakes_are_the_terminator_s() {
    let backends = "[{ address: \"10.2.0.9:443\" }]";
    spoiled(
        backends,
        "[{ address: \"10.2.0.9:443\" }]\n    limits: { maxConnections: 0 }",
        &["11:31: tenants[0].limits.maxConnections: is 0, and must be from 1 to 4294967295"],
    );
    spoiled(
        backends,
        "[{ address: \"10.2.0.9:443\" }]\n    limits: { handshakeRate: 5 }",
        &["11:15: tenants[0].limits.handshakeRate: is only for mode Terminate: this tenant's handshakes are its \
           backends'"],
    );
    let limits =
        changed(backends, "[{ address: \"10.2.0.9:443\" }]\n    limits: { connectionRate: 5 }").tenants[0].limits;
    assert_eq!(limits, TenantLimits { connection_rate: Some(5), ..TenantLimits::default() });
}

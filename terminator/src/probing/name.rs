//! Which server name a backend is asked for. Pure.

use config::{Hostname, HostnamePattern, Tenant};
use connection::backends::Endpoint;
use rustls::pki_types::ServerName;

/// The tenant's first exact name, because that one certainly exists. Of a tenant that has only wildcards, a name below the
/// first: its backends serve every such name, and by the bare suffix or the `*` itself a server would choose another
/// certificate. Without any hostname, the backend's own name; an address is no server name (RFC 6066 section 3), so
/// none is sent then.
pub(super) fn server_name(tenant: &Tenant, endpoint: &Endpoint) -> ServerName<'static> {
    let exact = tenant.hostnames.iter().find_map(|pattern| match pattern {
        HostnamePattern::Exact(name) => Some(name.as_str().to_owned()),
        HostnamePattern::Wildcard(_) => None,
    });
    let below = || {
        tenant.hostnames.iter().find_map(|pattern| match pattern {
            HostnamePattern::Wildcard(suffix) => Some(below_wildcard(suffix)),
            HostnamePattern::Exact(_) => None,
        })
    };
    let own = || endpoint.name.as_ref().map(|name| name.host().as_str().to_owned());
    let name = exact.or_else(below).or_else(own).and_then(|name| ServerName::try_from(name).ok());
    name.unwrap_or_else(|| ServerName::from(endpoint.address.ip()))
}

fn below_wildcard(suffix: &Hostname) -> String {
    format!("{LABEL}.{}", suffix.as_str())
}

/// Tells whoever reads the backend's log what asked.
const LABEL: &str = "certificate-probe";

#[cfg(test)]
mod tests {
    use config::{BackendName, Config};

    use super::*;

    fn name(hostnames: &str, backend: Option<&str>) -> String {
        let yaml = format!(
            "listeners: [{{ name: tls, address: \"127.0.0.1:1\", onUnmatched: t }}]\ntenants: [{{ name: t, hostnames: [{hostnames}], mode: Passthrough, backends: [{{ address: \"127.0.0.1:2\" }}] }}]"
        );
        let config = Config::from_yaml(&yaml).unwrap();
        let endpoint = Endpoint {
            address: "127.0.0.1:2".parse().unwrap(),
            name: backend.map(|name| BackendName::parse(name).unwrap()),
        };
        match server_name(&config.tenants[0], &endpoint) {
            ServerName::DnsName(name) => name.as_ref().to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn an_exact_name_goes_before_a_name_below_a_wildcard_and_both_before_the_backends() {
        let backend = Some("svc.ns.svc");
        assert_eq!(name("\"*.a.example\", b.a.example, c.a.example", backend), "b.a.example");
        assert_eq!(name("\"*.a.example\", \"*.b.example\"", backend), "certificate-probe.a.example");
        assert_eq!(name("", backend), "svc.ns.svc");
        assert!(name("", None).contains("IpAddress"), "{}", name("", None));
    }
}

//! The part of /metrics that the prober of certificates tells.

use std::collections::BTreeMap;

use connection::handoff::{ConnectionCount, ProbedBackend, SandboxPart};

use super::Exposition;

/// What is known of the prober when somebody asks.
#[derive(Debug, Default)]
pub struct ProberReport {
    /// Whether its socket is connected.
    pub up: bool,
    /// How it is confined; this and all else is empty where it did not answer in time.
    pub sandbox: Vec<SandboxPart>,
    /// Its looks by how they ended.
    pub probes: Vec<ConnectionCount>,
    /// What it has seen, of tenants that are probed.
    pub backends: Vec<ProbedBackend>,
}

/// Each sample once, whatever the prober tells: a page with one of them twice would be refused as a whole.
pub(super) fn probed(page: &mut Exposition, report: &ProberReport) {
    let name = "sni_router_certificate_prober_up";
    page.family(name, "gauge", "Whether the process that looks at backends' certificates can be reached.");
    page.sample(name, &[], u8::from(report.up));
    let name = "sni_router_certificate_prober_sandbox";
    page.family(name, "gauge", "Whether a means of that process's confinement holds.");
    let parts: BTreeMap<&str, bool> = report.sandbox.iter().map(|part| (part.part.as_str(), part.holds)).collect();
    for (part, holds) in parts {
        page.sample(name, &[("part", part)], u8::from(holds));
    }
    let name = "sni_router_certificate_probes_total";
    page.family(name, "counter", "Looks at backends' certificates by how they ended, since that process began.");
    let probes: BTreeMap<&str, u64> = report.probes.iter().map(|count| (count.outcome.as_str(), count.count)).collect();
    for (outcome, count) in probes {
        page.sample(name, &[("outcome", outcome)], count);
    }
    let name = "sni_router_certificate_probe_ok";
    page.family(name, "gauge", "Whether the backend showed a certificate when it was asked last.");
    let backends: BTreeMap<(&str, &str), &ProbedBackend> =
        report.backends.iter().map(|backend| ((backend.tenant.as_str(), backend.address.as_str()), backend)).collect();
    for ((tenant, backend), state) in &backends {
        page.sample(name, &[("tenant", tenant), ("backend", backend)], u8::from(state.ok));
    }
    let name = "sni_router_backend_certificate_not_after_seconds";
    page.family(name, "gauge", "When the certificate that a Passthrough backend showed last expires, in Unix seconds.");
    for ((tenant, backend), state) in &backends {
        let mut ends: BTreeMap<&str, i64> = BTreeMap::new();
        for certificate in &state.certificates {
            let end = ends.entry(&certificate.serial).or_insert(certificate.not_after);
            *end = certificate.not_after.min(*end);
        }
        for (serial, not_after) in ends {
            page.sample(name, &[("tenant", tenant), ("backend", backend), ("serial", serial)], not_after);
        }
    }
}

#[cfg(test)]
mod tests {
    use connection::handoff::CertificateStatus;

    use super::*;

    #[test]
    fn no_sample_is_told_twice() {
        let certificate = |not_after| CertificateStatus { serial: "0A".to_owned(), not_after, ..Default::default() };
        let backend = ProbedBackend {
            tenant: "t".to_owned(),
            address: "10.0.0.1:443".to_owned(),
            ok: true,
            seen: 1,
            certificates: vec![certificate(7), certificate(5)],
        };
        let part = SandboxPart { part: "seccomp".to_owned(), holds: true, reason: String::new() };
        let probes = ConnectionCount { outcome: "ok".to_owned(), count: 2 };
        let report = ProberReport {
            up: true,
            sandbox: vec![part.clone(), part],
            probes: vec![probes.clone(), probes],
            backends: vec![backend.clone(), backend],
        };
        let mut page = Exposition::default();
        probed(&mut page, &report);
        let samples: Vec<String> =
            page.finish().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        assert_eq!(
            samples,
            [
                "sni_router_certificate_prober_up 1",
                "sni_router_certificate_prober_sandbox{part=\"seccomp\"} 1",
                "sni_router_certificate_probes_total{outcome=\"ok\"} 2",
                "sni_router_certificate_probe_ok{tenant=\"t\",backend=\"10.0.0.1:443\"} 1",
                "sni_router_backend_certificate_not_after_seconds{tenant=\"t\",backend=\"10.0.0.1:443\",serial=\"0A\"} 5",
            ]
        );
    }
}

//! From the router's counters and the terminators' answers to what is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use config::Mode;
use connection::DrainPhase;
use connection::handoff::{SandboxPart, TerminatorStatus};
use connection::relay::DataPath;

use super::overlap::Hostnames;
use super::{
    BackendView, Backends, CertificateView, Certificates, ConfinementPart, Count, KernelProgram, OverlapView,
    TenantStatus, Tenants, TerminatorView, TrustView,
};
use crate::ebpf::cut_through::{CuttingThrough, Fallback};
use crate::ebpf::steer::Steering;
use crate::metrics::{ProberReport, TerminatorReport, WorkerCounters};
use crate::router::outcome::ConnectionOutcome;
use crate::router::{Policy, Shared, TenantState};

/// All tenants with their terminators.
pub fn tenants(
    shared: &Shared,
    policy: &Policy,
    workers: &[Arc<WorkerCounters>],
    terminators: &[TerminatorReport],
) -> Tenants {
    let tenant = |(index, state): (usize, &Arc<TenantState>)| tenant_status(index, state, terminators);
    let draining = shared.drain.phase() != DrainPhase::Running;
    Tenants {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        phase: if draining { "draining" } else { "running" }.to_owned(),
        reload_failure: shared.reloads.failure(),
        tenants: policy.tenants.iter().enumerate().map(tenant).collect(),
        data_paths: data_paths(workers),
        fallbacks: fallbacks(workers),
        kernel_programs: kernel_programs(&shared.steering, &shared.cut_through),
    }
}

/// What the terminators serve with, and what probed backends show.
pub fn certificates(policy: &Policy, terminators: &[TerminatorReport], prober: Option<&ProberReport>) -> Certificates {
    let hostnames = &Hostnames::of(&policy.config.tenants);
    let certificates = answered(terminators).flat_map(|(tenant, status)| {
        let tenant = &policy.config.tenants[tenant].name;
        status.certificates.iter().map(move |certificate| CertificateView {
            tenant: tenant.clone(),
            name: certificate.name.clone(),
            serial: certificate.serial.clone(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            names: certificate.names.clone(),
            overlap: hostnames
                .first_of_another(tenant, &certificate.names)
                .map(|(hostname, tenant)| OverlapView { hostname, tenant }),
        })
    });
    let trust = answered(terminators).flat_map(|(tenant, status)| {
        let tenant = &policy.config.tenants[tenant].name;
        status.trust.iter().map(move |trust| TrustView {
            tenant: tenant.clone(),
            kind: trust.kind.clone(),
            name: trust.name.clone(),
            subject: trust.subject.clone(),
            serial: trust.serial.clone(),
            not_before: trust.not_before,
            not_after: trust.not_after,
        })
    });
    let probed = prober.into_iter().flat_map(|prober| &prober.backends).flat_map(|backend| {
        backend.certificates.iter().map(|certificate| CertificateView {
            tenant: backend.tenant.clone(),
            name: format!("backend {}", backend.address),
            serial: certificate.serial.clone(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            names: certificate.names.clone(),
            overlap: None,
        })
    });
    Certificates { certificates: certificates.chain(probed).collect(), trust: trust.collect() }
}

/// Where connections go.
pub fn backends(policy: &Policy, terminators: &[TerminatorReport]) -> Backends {
    let mut all = Vec::new();
    for (index, state) in policy.tenants.iter().enumerate() {
        let tenant = &state.settings;
        let mut push = |address, name, up, active| {
            all.push(BackendView { tenant: tenant.name.clone(), address, name, up, active });
        };
        for state in state.backends.iter().flat_map(|backends| backends.states()) {
            push(state.address, state.name.unwrap_or_default(), state.up, state.active as u64);
        }
        for backend in status_of(index, terminators).into_iter().flat_map(|status| &status.backends) {
            push(backend.address.clone(), backend.name.clone(), backend.up, backend.active);
        }
    }
    Backends { backends: all }
}

fn tenant_status(index: usize, state: &TenantState, terminators: &[TerminatorReport]) -> TenantStatus {
    let tenant = &state.settings;
    let own = || state.counters.iter();
    let total = ConnectionOutcome::ALL.iter().map(|outcome| own().map(|c| c.outcomes(*outcome)).sum::<u64>()).sum();
    let status = status_of(index, terminators);
    let (active, client_to_backend_bytes, backend_to_client_bytes) = match (&tenant.mode, status) {
        (Mode::Passthrough, _) => (
            own().map(|counters| counters.active_now()).sum(),
            own().map(|counters| counters.traffic.totals().0).sum(),
            own().map(|counters| counters.traffic.totals().1).sum(),
        ),
        (Mode::Terminate(_), Some(status)) => (status.active, status.client_to_backend, status.backend_to_client),
        (Mode::Terminate(_), None) => (0, 0, 0),
    };
    let terminator = terminators.iter().find(|report| report.tenant == index).map(terminator);
    TenantStatus {
        name: tenant.name.clone(),
        mode: if terminator.is_some() { "Terminate" } else { "Passthrough" }.to_owned(),
        hostnames: tenant.hostnames.iter().map(ToString::to_string).collect(),
        active,
        total,
        client_to_backend_bytes,
        backend_to_client_bytes,
        terminator,
    }
}

fn terminator(report: &TerminatorReport) -> TerminatorView {
    let part = |part: &SandboxPart| ConfinementPart {
        part: part.part.clone(),
        holds: part.holds,
        reason: part.reason.clone(),
    };
    let status = report.status.as_ref();
    TerminatorView {
        state: match (report.up, status) {
            (true, Some(_)) => "up",
            (true, None) => "silent",
            (false, _) if report.on_demand => "stopped",
            (false, _) => "down",
        }
        .to_owned(),
        pid: status.map_or(0, |status| status.pid),
        restarts: report.restarts,
        confinement: status.into_iter().flat_map(|status| &status.sandbox).map(part).collect(),
        advertises_ca: status.is_some_and(|status| !status.ca_bundle.is_empty()),
    }
}

fn data_paths(workers: &[Arc<WorkerCounters>]) -> Vec<Count> {
    let relayed = |name: &str, path| Count {
        name: name.to_owned(),
        count: workers.iter().map(|worker| worker.data_path_total(path)).sum(),
    };
    let cut_through = workers.iter().map(|worker| worker.cut_through.load(Ordering::Relaxed)).sum();
    vec![
        Count { name: "cut_through".to_owned(), count: cut_through },
        relayed("splice", DataPath::Splice),
        relayed("copy", DataPath::Copy),
    ]
}

fn fallbacks(workers: &[Arc<WorkerCounters>]) -> Vec<Count> {
    let reasons = Fallback::ALL.into_iter().map(|reason| Count {
        name: reason.label().to_owned(),
        count: workers.iter().map(|worker| worker.fallbacks(reason)).sum(),
    });
    reasons.filter(|count| count.count > 0).collect()
}

fn kernel_programs(steering: &Steering, cut_through: &CuttingThrough) -> Vec<KernelProgram> {
    let program = |program: &str, missing: Option<&str>| KernelProgram {
        program: program.to_owned(),
        up: missing.is_none(),
        reason: missing.unwrap_or_default().to_owned(),
    };
    let steer = match steering {
        Steering::NotConfigured(_) => None,
        Steering::Attached(_) => Some(program(router_common::steer::PROGRAM, None)),
        Steering::Unavailable(reason) => Some(program(router_common::steer::PROGRAM, Some(reason.reason()))),
    };
    let cut_through = match cut_through {
        CuttingThrough::NotConfigured(_) | CuttingThrough::OfNoUse(_) => None,
        CuttingThrough::Running(_) => Some(program(router_common::cut_through::PROGRAM, None)),
        CuttingThrough::Unavailable(reason, _) => {
            Some(program(router_common::cut_through::PROGRAM, Some(reason.reason())))
        }
    };
    [steer, cut_through].into_iter().flatten().collect()
}

fn answered(terminators: &[TerminatorReport]) -> impl Iterator<Item = (usize, &TerminatorStatus)> {
    terminators.iter().filter_map(|report| Some((report.tenant, report.status.as_ref()?)))
}

fn status_of(tenant: usize, terminators: &[TerminatorReport]) -> Option<&TerminatorStatus> {
    answered(terminators).find(|(index, _)| *index == tenant).map(|(_, status)| status)
}

//! The page /metrics: all workers' counters summed, and what the terminators tell of themselves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use config::{Config, Mode};
use connection::handoff::{HandoffWait, TerminatorStatus};
use router_common::cut_through;
use router_common::steer::PROGRAM;

use super::counters::{DATA_PATHS, HELLO_BYTES_BOUNDS, SECONDS_BOUNDS};
use super::prober::{ProberReport, probed};
use super::{Exposition, HistogramTotal, TenantCounters, WorkerCounters};
use crate::ebpf::cut_through::{CuttingThrough, Fallback};
use crate::ebpf::steer::Steering;
use crate::names::{Names, Resolution};
use crate::router::outcome::{ConnectionOutcome, HelloOutcome, Shortage};
use crate::router::{Policy, ReloadOutcome, Reloads, Shared, TenantState};

/// What is known of one tenant's terminator when a scrape asks.
#[derive(Debug)]
pub struct TerminatorReport {
    /// The tenant's index in the configuration.
    pub tenant: usize,
    /// Whether its hand-off socket is connected.
    pub up: bool,
    /// Whether it is only there when connections ask for it.
    pub on_demand: bool,
    /// How often it came back after it had gone.
    pub restarts: u64,
    /// Its own counters, when it answered in time.
    pub status: Option<TerminatorStatus>,
}

/// Renders the page.
pub fn report(
    shared: &Shared,
    policy: &Policy,
    workers: &[Arc<WorkerCounters>],
    terminators: &[TerminatorReport],
    prober: Option<&ProberReport>,
) -> String {
    let config = &policy.config;
    let mut page = Exposition::default();
    connections(&mut page, policy, workers, terminators);
    hellos(&mut page, workers);
    bytes(&mut page, policy, terminators);
    data_paths(&mut page, workers, &shared.cut_through);
    programs(&mut page, &shared.steering, &shared.cut_through);
    handoffs(&mut page, policy);
    backends(&mut page, policy, terminators);
    names(&mut page, &policy.names);
    self::terminators(&mut page, config, terminators);
    if let Some(prober) = prober {
        probed(&mut page, prober);
    }
    reloads(&mut page, &shared.reloads);
    page.finish()
}

fn connections(
    page: &mut Exposition,
    policy: &Policy,
    workers: &[Arc<WorkerCounters>],
    terminators: &[TerminatorReport],
) {
    let name = "sni_router_connections_total";
    page.family(name, "counter", "Connections that have ended; terminated ones when their terminator took them.");
    for outcome in ConnectionOutcome::ALL {
        let count: u64 = workers.iter().map(|worker| worker.rejections(outcome)).sum();
        if count > 0 {
            page.sample(name, &[("tenant", ""), ("mode", "reject"), ("outcome", outcome.label())], count);
        }
        for state in &policy.tenants {
            let (tenant, count) = (&state.settings, sum(state, |counters| counters.outcomes(outcome)));
            if count > 0 || outcome == ConnectionOutcome::Ok {
                let labels = [("tenant", &*tenant.name), ("mode", mode(&tenant.mode)), ("outcome", outcome.label())];
                page.sample(name, &labels, count);
            }
        }
    }
    let name = "sni_router_connections_active";
    page.family(name, "gauge", "Connections that have a tenant and have not ended.");
    for (index, state) in policy.tenants.iter().enumerate() {
        let tenant = &state.settings;
        let active = match tenant.mode {
            Mode::Passthrough => sum(state, TenantCounters::active_now),
            Mode::Terminate(_) => status_of(terminators, index).map_or(0, |status| status.active),
        };
        page.sample(name, &[("tenant", &tenant.name), ("mode", mode(&tenant.mode))], active);
    }
    let name = "sni_router_accept_errors_total";
    page.family(name, "counter", "accept(2) calls that failed for lack of descriptors or memory.");
    for shortage in Shortage::ALL {
        let errors: u64 = workers.iter().map(|worker| worker.failed_accepts(shortage)).sum();
        page.sample(name, &[("reason", shortage.label())], errors);
    }
    let name = "sni_router_sources_not_counted_total";
    page.family(name, "counter", "Connections beyond perSource's reach: too many other sources at one time.");
    let count: u64 = workers.iter().map(|worker| worker.sources_not_counted.load(Ordering::Relaxed)).sum();
    page.sample(name, &[], count);
}

fn hellos(page: &mut Exposition, workers: &[Arc<WorkerCounters>]) {
    let name = "sni_router_client_hello_total";
    page.family(name, "counter", "Waits for a ClientHello, by how they ended.");
    for outcome in HelloOutcome::ALL {
        let count: u64 = workers.iter().map(|worker| worker.hellos(outcome)).sum();
        page.sample(name, &[("outcome", outcome.label())], count);
    }
    let name = "sni_router_client_hello_bytes";
    page.family(name, "histogram", "Bytes of a ClientHello on the wire, record headers included.");
    let total = HistogramTotal::of(HELLO_BYTES_BOUNDS, workers.iter().map(|worker| &worker.hello_bytes));
    page.histogram(name, &[], &total);
    let name = "sni_router_client_hello_seconds";
    page.family(name, "histogram", "Seconds from accept to the whole ClientHello.");
    let total = HistogramTotal::of(SECONDS_BOUNDS, workers.iter().map(|worker| &worker.hello_seconds));
    page.histogram(name, &[], &total);
}

fn bytes(page: &mut Exposition, policy: &Policy, terminators: &[TerminatorReport]) {
    let name = "sni_router_bytes_total";
    page.family(name, "counter", "Bytes delivered: TLS as it is under Passthrough, plaintext under Terminate.");
    for (index, state) in policy.tenants.iter().enumerate() {
        let tenant = &state.settings;
        let (client_to_backend, backend_to_client) = match (&tenant.mode, status_of(terminators, index)) {
            (Mode::Passthrough, _) => {
                (sum(state, |counters| counters.traffic.totals().0), sum(state, |counters| counters.traffic.totals().1))
            }
            (Mode::Terminate(_), Some(status)) => (status.client_to_backend, status.backend_to_client),
            (Mode::Terminate(_), None) => continue,
        };
        page.sample(name, &[("tenant", &tenant.name), ("direction", "client_to_backend")], client_to_backend);
        page.sample(name, &[("tenant", &tenant.name), ("direction", "backend_to_client")], backend_to_client);
    }
}

fn data_paths(page: &mut Exposition, workers: &[Arc<WorkerCounters>], cut_through: &CuttingThrough) {
    let name = "sni_router_data_path_total";
    page.family(name, "counter", "Passthrough connections by the best rung that a direction used.");
    for (path, label) in DATA_PATHS {
        let count: u64 = workers.iter().map(|worker| worker.data_path_total(path)).sum();
        page.sample(name, &[("path", label)], count);
    }
    if !matches!(cut_through, CuttingThrough::NotConfigured(_) | CuttingThrough::OfNoUse(_)) {
        let count: u64 = workers.iter().map(|worker| worker.cut_through.load(Ordering::Relaxed)).sum();
        page.sample(name, &[("path", "cut_through")], count);
    }
    let name = "sni_router_data_path_fallback_total";
    page.family(name, "counter", "Passthrough connections that could not use a better rung.");
    let no_pipe: u64 = workers.iter().map(|worker| worker.fallback_no_pipe.load(Ordering::Relaxed)).sum();
    page.sample(name, &[("reason", "no_pipe")], no_pipe);
    for reason in Fallback::ALL {
        let count: u64 = workers.iter().map(|worker| worker.fallbacks(reason)).sum();
        if count > 0 {
            page.sample(name, &[("reason", reason.label())], count);
        }
    }
    if let Some(cut_through) = cut_through.carrier() {
        let (used, size) = cut_through.fill();
        for (name, help, value) in [
            ("sni_router_cut_through_flows", "Connections that the kernel carries or has just carried.", used),
            ("sni_router_cut_through_opening", "Those of them whose sockets still exist.", cut_through.opening()),
            (
                "sni_router_cut_through_other_version_flows",
                "Connections that another version's programs carry to their ends.",
                cut_through.of_other_versions(),
            ),
            ("sni_router_cut_through_flows_max", "How many connections the kernel can carry.", size),
        ] {
            page.family(name, "gauge", help);
            page.sample(name, &[], value);
        }
    }
}

fn programs(page: &mut Exposition, steering: &Steering, cut_through: &CuttingThrough) {
    let steering_state = match steering {
        Steering::NotConfigured(_) => None,
        Steering::Attached(_) => Some((PROGRAM, "")),
        Steering::Unavailable(reason) => Some((PROGRAM, reason.reason())),
    };
    let cut_through_state = match cut_through {
        CuttingThrough::NotConfigured(_) | CuttingThrough::OfNoUse(_) => None,
        CuttingThrough::Running(_) => Some((cut_through::PROGRAM, "")),
        CuttingThrough::Unavailable(reason, _) => Some((cut_through::PROGRAM, reason.reason())),
    };
    let states: Vec<_> = [steering_state, cut_through_state].into_iter().flatten().collect();
    if states.is_empty() {
        return;
    }
    let name = "sni_router_ebpf_up";
    page.family(name, "gauge", "Whether the kernel runs a program that the configuration asks for, or why not.");
    for (program, reason) in states {
        page.sample(name, &[("program", program), ("reason", reason)], u8::from(reason.is_empty()));
    }
    let name = "sni_router_ebpf_verdicts_total";
    page.family(name, "counter", "What the kernel's programs decided: steer per connection, cut_through per packet.");
    for (verdict, count) in steering.verdicts().into_iter().flatten() {
        page.sample(name, &[("program", PROGRAM), ("verdict", verdict.label())], count);
    }
    if let Some(cut_through) = cut_through.carrier() {
        for (verdict, count) in cut_through.verdicts() {
            page.sample(name, &[("program", verdict.program()), ("verdict", verdict.label())], count);
        }
    }
}

fn handoffs(page: &mut Exposition, policy: &Policy) {
    let name = "sni_router_handoff_seconds";
    page.family(name, "histogram", "Seconds from the route to the terminator's socket taking the connection.");
    for state in &policy.tenants {
        if let Mode::Terminate(_) = state.settings.mode {
            let histograms = state.counters.iter().filter_map(|worker| worker.handoff_seconds.as_deref());
            page.histogram(name, &[("tenant", &state.settings.name)], &HistogramTotal::of(SECONDS_BOUNDS, histograms));
        }
    }
    let name = "sni_router_handoff_waits_total";
    page.family(name, "counter", "Hand-offs that had to wait for what their terminator or this host lacked.");
    for state in &policy.tenants {
        for reason in HandoffWait::ALL {
            let count = sum(state, |counters| counters.handoff_waits.total(reason));
            if count > 0 {
                page.sample(name, &[("tenant", &*state.settings.name), ("reason", reason.label())], count);
            }
        }
    }
}

fn backends(page: &mut Exposition, policy: &Policy, terminators: &[TerminatorReport]) {
    let name = "sni_router_backend_up";
    page.family(name, "gauge", "Whether the backend gets connections.");
    for (index, TenantState { settings: tenant, backends: own, .. }) in
        policy.tenants.iter().map(Arc::as_ref).enumerate()
    {
        let mut sample = |backend: &str, up| {
            page.sample(name, &[("tenant", &tenant.name), ("backend", backend)], u8::from(up));
        };
        for state in own.iter().flat_map(|backends| backends.states()) {
            sample(&state.address, state.up);
        }
        for backend in status_of(terminators, index).into_iter().flat_map(|status| &status.backends) {
            sample(&backend.address, backend.up);
        }
    }
}

fn names(page: &mut Exposition, names: &Names) {
    let states = names.states();
    if states.is_empty() {
        return;
    }
    let name = "sni_router_name_addresses";
    page.family(name, "gauge", "Addresses in use of a backend's name.");
    for state in &states {
        page.sample(name, &[("name", &state.name)], state.addresses as u64);
    }
    let name = "sni_router_name_answered";
    page.family(
        name,
        "gauge",
        "Whether the last question for a backend's name was answered; if not, the answer before it holds.",
    );
    for state in &states {
        page.sample(name, &[("name", &state.name)], u8::from(state.answered));
    }
    let name = "sni_router_name_resolutions_total";
    page.family(name, "counter", "Questions for the names of backends, by how they ended.");
    for outcome in Resolution::ALL {
        page.sample(name, &[("outcome", outcome.label())], names.total(outcome));
    }
}

fn terminators(page: &mut Exposition, config: &Config, terminators: &[TerminatorReport]) {
    let tenant = |report: &TerminatorReport| config.tenants[report.tenant].name.as_str();
    let name = "sni_terminator_up";
    page.family(name, "gauge", "Whether the tenant's terminator can be reached; not told of one that nobody asks for.");
    for report in terminators.iter().filter(|report| report.up || !report.on_demand) {
        page.sample(name, &[("tenant", tenant(report))], u8::from(report.up));
    }
    let name = "sni_terminator_restarts_total";
    page.family(name, "counter", "How often the tenant's terminator came back after it had gone.");
    for report in terminators {
        page.sample(name, &[("tenant", tenant(report))], report.restarts);
    }
    let answered: Vec<_> =
        terminators.iter().filter_map(|report| Some((tenant(report), report.status.as_ref()?))).collect();
    let name = "sni_terminator_handshakes_total";
    page.family(name, "counter", "TLS handshakes by how they ended.");
    for (tenant, status) in &answered {
        for count in &status.handshakes {
            let labels = [("tenant", *tenant), ("outcome", &*count.outcome), ("reason", &*count.reason)];
            page.sample(name, &labels, count.count);
        }
    }
    let name = "sni_terminator_backend_handshakes_total";
    page.family(name, "counter", "TLS handshakes with backends by how they ended.");
    for (tenant, status) in &answered {
        for count in &status.backend_handshakes {
            let labels = [("tenant", *tenant), ("outcome", &*count.outcome), ("reason", &*count.reason)];
            page.sample(name, &labels, count.count);
        }
    }
    let name = "sni_terminator_handshake_seconds";
    page.family(name, "histogram", "Seconds that successful TLS handshakes took.");
    for (tenant, status) in &answered {
        if let Some(total) = HistogramTotal::of_terminator(&status.handshake_seconds) {
            page.histogram(name, &[("tenant", tenant)], &total);
        }
    }
    let name = "sni_terminator_client_certificates_total";
    page.family(name, "counter", "Client certificates by verdict.");
    for (tenant, status) in &answered {
        for count in &status.client_certificates {
            let labels = [("tenant", *tenant), ("outcome", &*count.outcome), ("reason", &*count.reason)];
            page.sample(name, &labels, count.count);
        }
    }
    let name = "sni_terminator_connections_total";
    page.family(name, "counter", "Terminated connections that have ended.");
    for (tenant, status) in &answered {
        for count in &status.connections {
            page.sample(name, &[("tenant", tenant), ("outcome", &count.outcome)], count.count);
        }
    }
    let name = "sni_terminator_sandbox";
    page.family(name, "gauge", "Whether a means of the terminator's confinement holds.");
    for (tenant, status) in &answered {
        for part in &status.sandbox {
            page.sample(name, &[("tenant", *tenant), ("part", &*part.part)], u8::from(part.holds));
        }
    }
    let name = "sni_terminator_certificate_not_after_seconds";
    page.family(name, "gauge", "When the certificate expires, in Unix seconds.");
    for (tenant, status) in &answered {
        for certificate in &status.certificates {
            let labels = [("tenant", *tenant), ("name", &*certificate.name), ("serial", &*certificate.serial)];
            page.sample(name, &labels, certificate.not_after);
        }
    }
    let name = "sni_terminator_trust_not_after_seconds";
    page.family(name, "gauge", "When an issuer, a trusted CA or a revocation list ends, in Unix seconds.");
    for (tenant, status) in &answered {
        for trust in &status.trust {
            let (kind, file, subject, serial) = (&*trust.kind, &*trust.name, &*trust.subject, &*trust.serial);
            let labels =
                [("tenant", *tenant), ("kind", kind), ("name", file), ("subject", subject), ("serial", serial)];
            page.sample(name, &labels, trust.not_after);
        }
    }
}

fn reloads(page: &mut Exposition, reloads: &Reloads) {
    let name = "sni_router_config_reloads_total";
    page.family(name, "counter", "Attempts to put a changed configuration in force, by how they ended.");
    for outcome in ReloadOutcome::ALL {
        page.sample(name, &[("outcome", outcome.label())], reloads.total(outcome));
    }
    let name = "sni_router_config_last_reload_ok";
    page.family(name, "gauge", "Whether the configuration in force is that of the file, as far as is known.");
    page.sample(name, &[], u8::from(!reloads.last_failed()));
}

fn sum(tenant: &TenantState, value: impl Fn(&TenantCounters) -> u64) -> u64 {
    tenant.counters.iter().map(|worker| value(worker)).sum()
}

fn status_of(terminators: &[TerminatorReport], tenant: usize) -> Option<&TerminatorStatus> {
    let position = terminators.binary_search_by_key(&tenant, |report| report.tenant).ok()?;
    terminators[position].status.as_ref()
}

fn mode(mode: &Mode) -> &'static str {
    match mode {
        Mode::Passthrough => "passthrough",
        Mode::Terminate(_) => "terminate",
    }
}

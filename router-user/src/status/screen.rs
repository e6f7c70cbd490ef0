//! The status as a person reads it: tables, and a line for each thing that is not as it should be. Pure.

use std::fmt::Write as _;

use super::{Backends, CertificateView, Certificates, OverlapView, TenantStatus, Tenants, TrustView};

/// Everything that was told, as text. `now` in Unix seconds.
pub fn screen(tenants: &Tenants, certificates: &Certificates, backends: &Backends, now: i64) -> String {
    let mut text = format!("sni-router {}, pid {}, {}\n", tenants.version, tenants.pid, tenants.phase);
    for line in tenants.reload_failure.lines() {
        let _ = writeln!(text, "  not reloaded: {line}");
    }
    let rows = tenants.tenants.iter().map(tenant_row).collect();
    text.push_str(&table(["TENANT", "MODE", "ACTIVE", "TOTAL", "TERMINATOR", "CONFINED"], rows));
    for (tenant, part) in missing_parts(tenants) {
        let _ = writeln!(text, "  {tenant}: no {}: {}", part.0, part.1);
    }
    if !certificates.certificates.is_empty() {
        let rows = certificates.certificates.iter().map(|certificate| certificate_row(certificate, now)).collect();
        text.push_str(&table(["TENANT", "CERTIFICATE", "ENDS", "LEFT", "SERIAL", "NAMES"], rows));
    }
    for certificate in &certificates.certificates {
        let Some(OverlapView { hostname, tenant }) = &certificate.overlap else { continue };
        let (ours, name) = (&certificate.tenant, &certificate.name);
        let _ = writeln!(
            text,
            "  {ours}: {name} covers {hostname} of tenant {tenant} too: clients may send that tenant's requests here"
        );
    }
    for trust in certificates.trust.iter().filter(|trust| ends_soon(trust, now)) {
        let (kind, end, left) = (trust.kind.replace('_', " "), date(trust.not_after), left(trust.not_after - now));
        let _ = writeln!(text, "  {}: {kind} {} of {} ends {end}: {left}", trust.tenant, trust.subject, trust.name);
    }
    let advertising = |tenant: &&TenantStatus| tenant.terminator.as_ref().is_some_and(|t| t.advertises_ca);
    for tenant in tenants.tenants.iter().filter(advertising) {
        let _ = writeln!(text, "  CA for clients of {0}: /v1/ca/{0}", tenant.name);
    }
    let rows = backends.backends.iter().map(|backend| {
        let state = if backend.up { "up" } else { "down" };
        let shown = match backend.name.as_str() {
            "" => backend.address.clone(),
            name if name == backend.address => format!("{name} (no address)"),
            name => format!("{} ({name})", backend.address),
        };
        [backend.tenant.clone(), shown, state.to_owned(), backend.active.to_string()]
    });
    text.push_str(&table(["TENANT", "BACKEND", "STATE", "ACTIVE"], rows.collect()));
    let counts = |counts: &[super::Count]| {
        counts.iter().map(|count| format!("{} {}", count.name, count.count)).collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(text, "\nData paths of passthrough connections: {}", counts(&tenants.data_paths));
    if !tenants.fallbacks.is_empty() {
        let _ = writeln!(text, "  no better path because of: {}", counts(&tenants.fallbacks));
    }
    for program in &tenants.kernel_programs {
        let state = if program.up { "runs in the kernel".to_owned() } else { format!("off: {}", program.reason) };
        let _ = writeln!(text, "  {}: {state}", program.program);
    }
    text
}

fn tenant_row(tenant: &TenantStatus) -> [String; 6] {
    let (terminator, confined) = match &tenant.terminator {
        None => ("-".to_owned(), "-".to_owned()),
        Some(terminator) => {
            let restarts =
                if terminator.restarts > 0 { format!(", restarted {}", terminator.restarts) } else { String::new() };
            let pid = if terminator.pid > 0 { format!(", pid {}", terminator.pid) } else { String::new() };
            let holds = terminator.confinement.iter().filter(|part| part.holds).count();
            let parts = terminator.confinement.len();
            let confined = if parts == 0 { "?".to_owned() } else { format!("{holds} of {parts}") };
            (format!("{}{pid}{restarts}", terminator.state), confined)
        }
    };
    let (active, total) = (tenant.active.to_string(), tenant.total.to_string());
    [tenant.name.clone(), tenant.mode.clone(), active, total, terminator, confined]
}

/// The parts of the confinement that do not hold, each with its tenant and the reason.
fn missing_parts(tenants: &Tenants) -> impl Iterator<Item = (&str, (&str, &str))> {
    tenants.tenants.iter().flat_map(|tenant| {
        let parts = tenant.terminator.iter().flat_map(|terminator| &terminator.confinement);
        let missing = parts.filter(|part| !part.holds);
        missing.map(|part| (tenant.name.as_str(), (part.part.as_str(), part.reason.as_str())))
    })
}

fn certificate_row(certificate: &CertificateView, now: i64) -> [String; 6] {
    let names = match certificate.names.as_slice() {
        [] => "-".to_owned(),
        [first] => first.clone(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    };
    [
        certificate.tenant.clone(),
        certificate.name.clone(),
        date(certificate.not_after),
        left(certificate.not_after - now),
        certificate.serial.clone(),
        names,
    ]
}

/// In the terminator's log there are days and fractions of lives; here whatever is worth a line of a screen.
fn ends_soon(trust: &TrustView, now: i64) -> bool {
    let days = if trust.kind == "revocation_list" { 1 } else { 30 };
    trust.not_after - now < (days * SECONDS_PER_DAY).min((trust.not_after - trust.not_before) / 3)
}

fn left(seconds: i64) -> String {
    match seconds {
        ..0 => "EXPIRED".to_owned(),
        0..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / SECONDS_PER_DAY),
    }
}

/// The date in UTC (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
fn date(unix: i64) -> String {
    let days = unix.div_euclid(SECONDS_PER_DAY) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Columns as wide as their widest cell, after an empty line.
fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let head = head.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::from("\n");
    for row in std::iter::once(&head).chain(&rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, text) in
            [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (-1, "1969-12-31"), (4_102_444_800, "2100-01-01")]
        {
            assert_eq!(date(unix), text);
        }
    }

    #[test]
    fn a_person_sees_what_is_there_and_what_is_not_as_it_should_be() {
        let part =
            |part: &str, holds, reason: &str| ConfinementPart { part: part.into(), holds, reason: reason.into() };
        let terminator = TerminatorView {
            state: "up".into(),
            pid: 42,
            restarts: 1,
            confinement: vec![part("seccomp", true, ""), part("own_uid", false, "not started as root")],
            advertises_ca: true,
        };
        let tenants = Tenants {
            version: "0.1.0".into(),
            pid: 7,
            phase: "running".into(),
            tenants: vec![
                TenantStatus {
                    name: "acme".into(),
                    mode: "Terminate".into(),
                    active: 3,
                    total: 12,
                    terminator: Some(terminator),
                    ..TenantStatus::default()
                },
                TenantStatus { name: "pinniped".into(), mode: "Passthrough".into(), ..TenantStatus::default() },
            ],
            data_paths: vec![Count { name: "copy".into(), count: 5 }],
            kernel_programs: vec![KernelProgram { program: "steer".into(), up: false, reason: "no_permission".into() }],
            ..Tenants::default()
        };
        let certificates = Certificates {
            certificates: vec![CertificateView {
                tenant: "acme".into(),
                name: "generated".into(),
                serial: "0A".into(),
                not_before: 0,
                not_after: 20 * SECONDS_PER_DAY,
                names: vec!["a.example".into(), "192.0.2.1".into()],
                overlap: Some(OverlapView { hostname: "a.example".into(), tenant: "b".into() }),
            }],
            trust: [5, 90]
                .map(|days| TrustView {
                    tenant: "acme".into(),
                    kind: "client_ca".into(),
                    name: "/ca.crt".into(),
                    subject: format!("CN={days}"),
                    not_before: -100 * SECONDS_PER_DAY,
                    not_after: days * SECONDS_PER_DAY,
                    ..TrustView::default()
                })
                .to_vec(),
        };
        let backends = Backends {
            backends: vec![
                BackendView { tenant: "acme".into(), address: "10.0.0.1:80".into(), ..BackendView::default() },
                BackendView {
                    tenant: "acme".into(),
                    address: "10.0.0.2:80".into(),
                    name: "svc:80".into(),
                    up: true,
                    active: 1,
                },
            ],
        };
        let expected = "\
sni-router 0.1.0, pid 7, running

TENANT    MODE         ACTIVE  TOTAL  TERMINATOR               CONFINED
acme      Terminate    3       12     up, pid 42, restarted 1  1 of 2
pinniped  Passthrough  0       0      -                        -
  acme: no own_uid: not started as root

TENANT  CERTIFICATE  ENDS        LEFT     SERIAL  NAMES
acme    generated    1970-01-21  20 days  0A      a.example and 1 more
  acme: generated covers a.example of tenant b too: clients may send that tenant's requests here
  acme: client ca CN=5 of /ca.crt ends 1970-01-06: 5 days
  CA for clients of acme: /v1/ca/acme

TENANT  BACKEND               STATE  ACTIVE
acme    10.0.0.1:80           down   0
acme    10.0.0.2:80 (svc:80)  up     1

Data paths of passthrough connections: copy 5
  steer: off: no_permission
";
        assert_eq!(screen(&tenants, &certificates, &backends, 0), expected);
        assert!(screen(&tenants, &certificates, &backends, 21 * SECONDS_PER_DAY).contains("EXPIRED"));
    }
}

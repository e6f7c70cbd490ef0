//! Tenants of the file to those of the model.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::backend_tls::{self, backend_tls};
use super::context::{Context, or_default};
use super::identity::Identities;
use super::listener::clients;
use super::process::sandbox_policy;
use super::tcp::tcp;
use super::tls;
use crate::byte_size::ByteSize;
use crate::duration::Span;
use crate::field::Field;
use crate::file::{
    BackendFile, BalanceFile, CONNECT_TIMEOUT, ClientAddressFile, ConfigFile, DRAIN_TIMEOUT, HEALTH_INTERVAL,
    HEALTH_TIMEOUT, HEALTHY_AFTER, IDLE_STOP, IDLE_TIMEOUT, ModeFile, ProxyTlvFile, ProxyVersionFile, StartupFile,
    TenantFile, UNHEALTHY_AFTER,
};
use crate::model::{
    BackendTarget, Balance, CertificateSource, ClientAddress, HealthCheck, Mode, ProxyProtocol, ProxyTlv, ProxyVersion,
    Sandbox, Startup, Tenant, TenantLimits, Terminate,
};
use crate::text::Text;

/// All tenants, in the order of the file.
pub(super) fn tenants(context: &Context<'_>, file: &ConfigFile, identities: &Identities<'_>) -> Option<Vec<Tenant>> {
    let fallbacks = fallbacks(file);
    let default_client = backend_tls::default_client_certificate(context, file);
    let tenants = context.non_empty_list(&file.tenants, "tenants", |context, file| {
        let default_client = default_client.as_ref().and_then(Option::as_ref);
        tenant(&context, file, &fallbacks, identities, default_client)
    });
    default_client.and(tenants)
}

/// The names that listeners fall back to.
fn fallbacks(file: &ConfigFile) -> HashSet<&str> {
    let listeners = file.listeners.value().map(Vec::as_slice).unwrap_or_default();
    listeners
        .iter()
        .filter_map(Field::value)
        .flat_map(|listener| [&listener.on_no_server_name, &listener.on_unmatched])
        .filter_map(Field::value)
        .map(String::as_str)
        .collect()
}

fn tenant(
    context: &Context<'_>,
    file: &TenantFile,
    fallbacks: &HashSet<&str>,
    identities: &Identities<'_>,
    default_client: Option<&CertificateSource>,
) -> Option<Tenant> {
    let name = context.required(&file.name, "name").map(|name| name.0.0.as_str());
    let hostnames = context.list(&file.hostnames, "hostnames", |_, hostname| Some(hostname.0.clone()));
    if hostnames.as_ref().is_some_and(Vec::is_empty) && name.is_some_and(|name| !fallbacks.contains(name)) {
        let at = if file.hostnames.is_missing() { context.at } else { file.hostnames.at() };
        let message = "claims no name: add one, or name this tenant in a listener's onNoServerName or onUnmatched";
        context.report.error(at, &context.path.field("hostnames"), message);
    }
    let mode = context.required(&file.mode, "mode").and_then(|mode| match mode {
        ModeFile::Passthrough => passthrough(context, file),
        ModeFile::Terminate => terminate(context, file, name, identities, default_client),
    });
    let backends = backends(context, file);
    let health_check = health_check(context, file);
    let certificate_probe = certificate_probe(context, file);
    let connect_timeout =
        context.duration(&file.connect_timeout, "connectTimeout", CONNECT_TIMEOUT, SHORTEST_CONNECT..=LONGEST_CONNECT);
    let idle_timeout = context.duration(&file.idle_timeout, "idleTimeout", IDLE_TIMEOUT, SHORTEST_IDLE..=LONGEST_IDLE);
    let drain_timeout =
        context.duration(&file.drain_timeout, "drainTimeout", DRAIN_TIMEOUT, Span::millis(0)..=LONGEST_DRAIN);
    let limits = limits(context, file);
    let proxy_protocol = proxy_protocol(context, file);
    let client_address = client_address(file);
    let tcp = tcp(context, &file.tcp);
    let clients = clients(context, &file.clients);
    Some(Tenant {
        name: name?.to_owned(),
        hostnames: hostnames?,
        mode: mode?,
        backends: backends?,
        balance: balance(*or_default(&file.balance, &BalanceFile::LeastConnections)?),
        health_check: health_check?,
        certificate_probe: certificate_probe?,
        connect_timeout: connect_timeout?,
        limits: limits?,
        client_address: client_address?,
        proxy_protocol: proxy_protocol?,
        idle_timeout: idle_timeout?,
        drain_timeout: drain_timeout?,
        tcp: tcp?,
        clients: clients?,
    })
}

/// Refuses what only a terminator could act upon.
fn passthrough(context: &Context<'_>, file: &TenantFile) -> Option<Mode> {
    let fields = [
        ("tls", file.tls.is_missing(), file.tls.key()),
        ("backendTls", file.backend_tls.is_missing(), file.backend_tls.key()),
        ("sandbox", file.sandbox.is_missing(), file.sandbox.key()),
        ("startup", file.startup.is_missing(), file.startup.key()),
        ("idleStop", file.idle_stop.is_missing(), file.idle_stop.key()),
    ];
    let mut mode = Some(Mode::Passthrough);
    for (name, is_missing, key) in fields {
        if !is_missing {
            let message = "is only for mode Terminate, and this tenant's mode is Passthrough: remove it";
            context.report.error(key, &context.path.field(name), message);
            mode = None;
        }
    }
    mode
}

fn terminate(
    context: &Context<'_>,
    file: &TenantFile,
    name: Option<&str>,
    identities: &Identities<'_>,
    default_client: Option<&CertificateSource>,
) -> Option<Mode> {
    let sandbox = context.group(&file.sandbox, "sandbox", Sandbox::default(), |context, file| {
        let policy = sandbox_policy(&file.policy);
        let memory_max = memory_max(&context, &file.memory_max);
        let (uid, gid) = (file.uid.value().copied(), file.gid.value().copied());
        Some(Sandbox { uid, gid, policy: policy?, memory_max: memory_max? })
    });
    let tls = tls::tls(context, &file.tls);
    let backend_tls = backend_tls(context, &file.backend_tls, default_client);
    let startup = startup(context, file);
    let (sandbox, tls, startup) = (sandbox?, tls?, startup?);
    Some(Mode::Terminate(Box::new(Terminate {
        certificates: tls.certificates,
        generate: tls.generate,
        ca_bundle: tls.ca_bundle,
        external_endpoints: tls.external_endpoints,
        min_version: tls.min_version,
        alpn: tls.alpn,
        client_validation: tls.client_validation,
        backend_tls: backend_tls?.map(Box::new),
        sandbox,
        startup,
        identity: identities.of(name?, sandbox)?,
    })))
}

fn memory_max(context: &Context<'_>, field: &Field<Text<ByteSize>>) -> Option<Option<u64>> {
    if field.is_missing() {
        return Some(None);
    }
    let Text(ByteSize(bytes)) = *field.value()?;
    if bytes < LEAST_MEMORY {
        context.error(field, "memoryMax", "is less than 16MiB, with which no terminator serves well");
        return None;
    }
    Some(Some(bytes))
}

fn startup(context: &Context<'_>, file: &TenantFile) -> Option<Startup> {
    let idle_stop = context.duration(&file.idle_stop, "idleStop", IDLE_STOP, SHORTEST_IDLE..=LONGEST_IDLE);
    match or_default(&file.startup, &StartupFile::Always)? {
        StartupFile::OnDemand => Some(Startup::OnDemand { idle_stop: idle_stop? }),
        // `idleStop` may stand there for whoever changes his mind.
        StartupFile::Always => idle_stop.map(|_| Startup::Always),
    }
}

fn backends(context: &Context<'_>, file: &TenantFile) -> Option<Vec<BackendTarget>> {
    let backends = context.non_empty_list(&file.backends, "backends", |context, backend: &BackendFile| {
        let weight = context.number(&backend.weight, "weight", 1, 0..=HEAVIEST);
        let address = context.required(&backend.address, "address").map(|address| address.0.clone());
        Some(BackendTarget { address: address?, weight: u16::try_from(weight?).ok()? })
    })?;
    if backends.len() > MOST_BACKENDS {
        let message = format!("has {} elements, and must have at most {MOST_BACKENDS}", backends.len());
        context.error(&file.backends, "backends", message);
    }
    if !backends.is_empty() && backends.iter().all(|backend| backend.weight == 0) {
        context.error(&file.backends, "backends", "gives every backend a weight of 0: nobody would get a connection");
    }
    let mut seen = HashMap::new();
    for (index, (backend, field)) in backends.iter().zip(file.backends.value().into_iter().flatten()).enumerate() {
        if let Some(first) = seen.insert(&backend.address, field.at()) {
            let message = format!("`{}` is already listed at {first}: give that one a weight", backend.address);
            context.report.error(field.at(), &context.path.field("backends").index(index), message);
        }
    }
    Some(backends)
}

fn balance(file: BalanceFile) -> Balance {
    match file {
        BalanceFile::LeastConnections => Balance::LeastConnections,
        BalanceFile::RoundRobin => Balance::RoundRobin,
        BalanceFile::Random => Balance::Random,
        BalanceFile::SourceHash => Balance::SourceHash,
    }
}

fn health_check(context: &Context<'_>, file: &TenantFile) -> Option<Option<HealthCheck>> {
    context.group(&file.health_check, "healthCheck", None, |context, file| {
        let interval = context.duration(&file.interval, "interval", HEALTH_INTERVAL, SHORTEST_PROBE..=LONGEST_INTERVAL);
        let timeout = context.duration(&file.timeout, "timeout", HEALTH_TIMEOUT, SHORTEST_PROBE..=LONGEST_CONNECT);
        let unhealthy_after = context.number(&file.unhealthy_after, "unhealthyAfter", UNHEALTHY_AFTER, 1..=MOST_PROBES);
        let healthy_after = context.number(&file.healthy_after, "healthyAfter", HEALTHY_AFTER, 1..=MOST_PROBES);
        Some(Some(HealthCheck {
            interval: interval?,
            timeout: timeout?,
            unhealthy_after: unhealthy_after?,
            healthy_after: healthy_after?,
        }))
    })
}

/// `None` where nobody is probed.
fn certificate_probe(context: &Context<'_>, tenant: &TenantFile) -> Option<Option<Duration>> {
    let field = &tenant.certificate_probe;
    if field.is_missing() {
        return Some(None);
    }
    if tenant.mode.value() == Some(&ModeFile::Terminate) {
        let message = "is only for mode Passthrough: a terminator watches the certificates that it serves with";
        context.report.error(field.key(), &context.path.field("certificateProbe"), message);
        return None;
    }
    let bounds = SHORTEST_CERTIFICATE_PROBE..=LONGEST_CERTIFICATE_PROBE;
    // The default stands for what is there, and is never used.
    context.duration(field, "certificateProbe", Text(LONGEST_CERTIFICATE_PROBE), bounds).map(Some)
}

fn client_address(tenant: &TenantFile) -> Option<ClientAddress> {
    match or_default(&tenant.client_address, &ClientAddressFile::Router)? {
        ClientAddressFile::Router => Some(ClientAddress::Router),
        ClientAddressFile::Transparent => Some(ClientAddress::Transparent),
    }
}

fn limits(context: &Context<'_>, tenant: &TenantFile) -> Option<TenantLimits> {
    let is_passthrough = tenant.mode.value() == Some(&ModeFile::Passthrough);
    context.group(&tenant.limits, "limits", TenantLimits::default(), |context, file| {
        if is_passthrough && !file.handshake_rate.is_missing() {
            let message = "is only for mode Terminate: this tenant's handshakes are its backends'";
            context.report.error(file.handshake_rate.key(), &context.path.field("handshakeRate"), message);
            return None;
        }
        let max_connections = context.bound(&file.max_connections, "maxConnections");
        let connection_rate = context.bound(&file.connection_rate, "connectionRate");
        let handshake_rate = context.bound(&file.handshake_rate, "handshakeRate");
        Some(TenantLimits {
            max_connections: max_connections?,
            connection_rate: connection_rate?,
            handshake_rate: handshake_rate?,
        })
    })
}

fn proxy_protocol(context: &Context<'_>, tenant: &TenantFile) -> Option<Option<ProxyProtocol>> {
    let is_passthrough = tenant.mode.value() == Some(&ModeFile::Passthrough);
    context.group(&tenant.proxy_protocol, "proxyProtocol", None, |context, file| {
        let version = context.required(&file.version, "version").map(|version| match version {
            ProxyVersionFile::V1 => ProxyVersion::V1,
            ProxyVersionFile::V2 => ProxyVersion::V2,
        });
        if version == Some(ProxyVersion::V1) && !file.tlvs.is_missing() {
            context.error(&file.tlvs, "tlvs", "is only for version v2: a v1 header has no room for them");
            return None;
        }
        let tlvs = context.list(&file.tlvs, "tlvs", |context, tlv| proxy_tlv(&context, *tlv, is_passthrough));
        Some(Some(ProxyProtocol { version: version?, tlvs: tlvs? }))
    })
}

fn proxy_tlv(context: &Context<'_>, file: ProxyTlvFile, is_passthrough: bool) -> Option<ProxyTlv> {
    let error = |message| {
        context.report.error(context.at, context.path, message);
        None
    };
    let tlv = match file {
        ProxyTlvFile::Authority => ProxyTlv::Authority,
        ProxyTlvFile::Alpn => ProxyTlv::Alpn,
        ProxyTlvFile::Ssl => ProxyTlv::Ssl,
        ProxyTlvFile::ClientCertificate => ProxyTlv::ClientCertificate,
        ProxyTlvFile::UniqueId => ProxyTlv::UniqueId,
        ProxyTlvFile::Crc32c => ProxyTlv::Crc32c,
        ProxyTlvFile::Groups => ProxyTlv::Groups,
    };
    let needs_tls = matches!(tlv, ProxyTlv::Alpn | ProxyTlv::Ssl | ProxyTlv::ClientCertificate | ProxyTlv::Groups);
    if is_passthrough && needs_tls {
        return error("is only for mode Terminate: what passes through is not known to the router");
    }
    Some(tlv)
}

/// The program itself counts for whoever runs it first, and a connection takes some ten KiB.
const LEAST_MEMORY: u64 = 16 << 20;
/// As HAProxy's.
const HEAVIEST: u32 = 256;
/// With the heaviest weights a round-robin schedule of so many takes 128 KiB.
const MOST_BACKENDS: usize = 256;
const SHORTEST_PROBE: Span = Span::millis(10);
const LONGEST_INTERVAL: Span = Span::hours(24);
const MOST_PROBES: u32 = 1000;
/// A handshake costs the backend more than a health check.
const SHORTEST_CERTIFICATE_PROBE: Span = Span::seconds(1);
/// The last warning comes a day before the end.
const LONGEST_CERTIFICATE_PROBE: Span = Span::hours(24);
const SHORTEST_CONNECT: Span = Span::millis(10);
/// Longer than a kernel goes on by itself (tcp_syn_retries, some 2 minutes).
const LONGEST_CONNECT: Span = Span::minutes(5);
const SHORTEST_IDLE: Span = Span::millis(100);
const LONGEST_IDLE: Span = Span::hours(24 * 7);
const LONGEST_DRAIN: Span = Span::hours(24);

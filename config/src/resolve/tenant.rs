//! Tenants of the file to those of the model.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::context::{Context, or_default};
use super::identity::Identities;
use super::listener::clients;
use super::process::sandbox_policy;
use super::tls;
use crate::duration::Span;
use crate::field::Field;
use crate::file::{
    BackendFile, CONNECT_TIMEOUT, ConfigFile, DRAIN_TIMEOUT, IDLE_TIMEOUT, ModeFile, StartupFile, TenantFile,
};
use crate::model::{Mode, Sandbox, Tenant, Terminate};

/// All tenants, in the order of the file.
pub(super) fn tenants(context: &Context<'_>, file: &ConfigFile, identities: &Identities<'_>) -> Option<Vec<Tenant>> {
    let fallbacks = fallbacks(file);
    context.non_empty_list(&file.tenants, "tenants", |context, file| tenant(&context, file, &fallbacks, identities))
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
) -> Option<Tenant> {
    context.not_yet_in_tenant(file);
    let name = context.required(&file.name, "name").map(|name| name.0.0.as_str());
    let hostnames = context.list(&file.hostnames, "hostnames", |_, hostname| Some(hostname.0.clone()));
    if hostnames.as_ref().is_some_and(Vec::is_empty) && name.is_some_and(|name| !fallbacks.contains(name)) {
        let at = if file.hostnames.is_missing() { context.at } else { file.hostnames.at() };
        let message = "claims no name: add one, or name this tenant in a listener's onNoServerName or onUnmatched";
        context.report.error(at, &context.path.field("hostnames"), message);
    }
    let mode = context.required(&file.mode, "mode").and_then(|mode| match mode {
        ModeFile::Passthrough => passthrough(context, file),
        ModeFile::Terminate => terminate(context, file, name, identities),
    });
    let backend = backend(context, file);
    let connect_timeout =
        context.duration(&file.connect_timeout, "connectTimeout", CONNECT_TIMEOUT, SHORTEST_CONNECT..=LONGEST_CONNECT);
    let idle_timeout = context.duration(&file.idle_timeout, "idleTimeout", IDLE_TIMEOUT, SHORTEST_IDLE..=LONGEST_IDLE);
    let drain_timeout =
        context.duration(&file.drain_timeout, "drainTimeout", DRAIN_TIMEOUT, Span::millis(0)..=LONGEST_DRAIN);
    let clients = clients(context, &file.clients);
    Some(Tenant {
        name: name?.to_owned(),
        hostnames: hostnames?,
        mode: mode?,
        backend: backend?,
        connect_timeout: connect_timeout?,
        idle_timeout: idle_timeout?,
        drain_timeout: drain_timeout?,
        clients: clients?,
    })
}

/// Refuses what only a terminator could act upon.
fn passthrough(context: &Context<'_>, file: &TenantFile) -> Option<Mode> {
    let fields = [
        ("tls", file.tls.is_missing(), file.tls.key()),
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
) -> Option<Mode> {
    context.not_yet_in_terminate(file);
    if let Some(StartupFile::OnDemand) = file.startup.value() {
        context.value_not_yet(&file.startup, "startup", "OnDemand");
    }
    let sandbox = context.group(&file.sandbox, "sandbox", Sandbox::default(), |context, file| {
        context.not_yet_in_sandbox(file);
        sandbox_policy(&context, &file.policy);
        Some(Sandbox { uid: file.uid.value().copied(), gid: file.gid.value().copied() })
    });
    let tls = tls::tls(context, &file.tls);
    or_default(&file.startup, &StartupFile::Always)?;
    let (sandbox, tls) = (sandbox?, tls?);
    Some(Mode::Terminate(Terminate {
        certificates: tls.certificates,
        min_version: tls.min_version,
        alpn: tls.alpn,
        client_validation: tls.client_validation,
        sandbox,
        identity: identities.of(name?, sandbox)?,
    }))
}

fn backend(context: &Context<'_>, file: &TenantFile) -> Option<SocketAddr> {
    let backends = context.non_empty_list(&file.backends, "backends", |context, backend: &BackendFile| {
        if let Some(weight) = backend.weight.value()
            && *weight != 1
        {
            context.value_not_yet(&backend.weight, "weight", &format!("a weight of {weight}"));
        }
        context.required(&backend.address, "address").map(|address| address.0.0)
    });
    if let Some([_, second, ..]) = file.backends.value().map(Vec::as_slice) {
        let path = context.path.field("backends");
        context.report.error(second.at(), &path.index(1), "a second backend is not available yet: keep one");
    }
    backends?.first().copied()
}

const SHORTEST_CONNECT: Span = Span::millis(10);
/// Longer than a kernel goes on by itself (tcp_syn_retries, some 2 minutes).
const LONGEST_CONNECT: Span = Span::minutes(5);
const SHORTEST_IDLE: Span = Span::millis(100);
const LONGEST_IDLE: Span = Span::hours(24 * 7);
const LONGEST_DRAIN: Span = Span::hours(24);

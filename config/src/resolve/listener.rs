//! Listeners of the file to those of the model.

use std::net::{Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;
use ipnet::IpNet;

use super::context::Context;
use crate::duration::Span;
use crate::field::Field;
use crate::file::{
    ClientHelloFile, ClientsFile, ConfigFile, HELLO_BYTES, HELLO_TIMEOUT, IPV4_PREFIX, IPV6_PREFIX, ListenerFile,
    MAX_CONNECTIONS, MAX_HELLO_BYTES, MIN_HELLO_BYTES, PerSourceFile, REJECT,
};
use crate::model::{ClientFilter, ClientHelloLimits, Fallback, Listener, PerSource, Steer};
use crate::text::Text;
use crate::yaml::quoted;

/// All listeners; `tenants` gives the index of each tenant's name.
pub(super) fn listeners(
    context: &Context<'_>,
    file: &ConfigFile,
    tenants: &HashMap<&str, usize>,
) -> Option<Vec<Listener>> {
    context.non_empty_list(&file.listeners, "listeners", |context, file| listener(&context, file, tenants))
}

fn listener(context: &Context<'_>, file: &ListenerFile, tenants: &HashMap<&str, usize>) -> Option<Listener> {
    let name = context.required(&file.name, "name");
    let address = context.required(&file.address, "address");
    let steer = steer(context, file);
    let hello =
        context.group(&file.client_hello, "clientHello", DEFAULT_HELLO, |context, file| client_hello(&context, file));
    let on_no_server_name = fallback(context, &file.on_no_server_name, "onNoServerName", tenants);
    let on_unmatched = fallback(context, &file.on_unmatched, "onUnmatched", tenants);
    let proxy_protocol_from = context.group(&file.proxy_protocol, "proxyProtocol", Vec::new(), |context, file| {
        context.non_empty_list(&file.from, "from", |_, prefix: &Text<IpNet>| Some(prefix.0))
    });
    let clients = clients(context, &file.clients);
    let max_connections = context.number(&file.max_connections, "maxConnections", MAX_CONNECTIONS, 1..=u32::MAX);
    let per_source =
        context.group(&file.per_source, "perSource", None, |context, file| per_source(&context, file).map(Some));
    Some(Listener {
        name: name?.0.0.clone(),
        address: address?.0.0,
        steer: steer?,
        client_hello: hello?,
        on_no_server_name: on_no_server_name?,
        on_unmatched: on_unmatched?,
        proxy_protocol_from: proxy_protocol_from?,
        clients: clients?,
        max_connections: max_connections? as usize,
        per_source: per_source?,
    })
}

/// A socket that is bound to an IPv4 address cannot accept from an IPv6 one.
fn steer(context: &Context<'_>, file: &ListenerFile) -> Option<Vec<Steer>> {
    context.list(&file.steer, "steer", |context, Text(steer)| {
        let address = file.address.value()?.0.0;
        if address.is_ipv4() && matches!(steer.prefix, IpNet::V6(_)) {
            let port = address.port();
            let message = format!("IPv6 cannot be steered to the IPv4 address `{address}`: listen on `[::]:{port}`");
            context.report.error(context.at, context.path, message);
            return None;
        }
        Some(*steer)
    })
}

fn client_hello(context: &Context<'_>, file: &ClientHelloFile) -> Option<ClientHelloLimits> {
    let timeout = context.duration(&file.timeout, "timeout", HELLO_TIMEOUT, SHORTEST_HELLO..=LONGEST_HELLO);
    let bounds = MIN_HELLO_BYTES..=MAX_HELLO_BYTES;
    let max_bytes = context.number(&file.max_bytes, "maxBytes", HELLO_BYTES, bounds);
    Some(ClientHelloLimits { timeout: timeout?, max_bytes: max_bytes? as usize })
}

fn per_source(context: &Context<'_>, file: &PerSourceFile) -> Option<PerSource> {
    if file.max_connections.is_missing() && file.connection_rate.is_missing() {
        let message = "needs `maxConnections` or `connectionRate`: without them it bounds nothing";
        context.report.error(context.at, context.path, message);
        return None;
    }
    let max_connections = context.bound(&file.max_connections, "maxConnections");
    let connection_rate = context.bound(&file.connection_rate, "connectionRate");
    let ipv4_prefix = context.number(&file.ipv4_prefix, "ipv4Prefix", IPV4_PREFIX, 1..=Ipv4Addr::BITS);
    let ipv6_prefix = context.number(&file.ipv6_prefix, "ipv6Prefix", IPV6_PREFIX, 1..=Ipv6Addr::BITS);
    Some(PerSource {
        max_connections: max_connections?,
        connection_rate: connection_rate?,
        ipv4_prefix: u8::try_from(ipv4_prefix?).ok()?,
        ipv6_prefix: u8::try_from(ipv6_prefix?).ok()?,
    })
}

fn fallback(
    context: &Context<'_>,
    field: &Field<String>,
    name: &str,
    tenants: &HashMap<&str, usize>,
) -> Option<Fallback> {
    if field.is_missing() {
        return Some(Fallback::Reject);
    }
    let target = field.value()?;
    if target == REJECT {
        return Some(Fallback::Reject);
    }
    let tenant = tenants.get(target.as_str()).copied().map(Fallback::Tenant);
    if tenant.is_none() {
        let message = format!("{} is no tenant: write a tenant's name or `{REJECT}`", quoted(target));
        context.error(field, name, message);
    }
    tenant
}

/// The filter of a listener or of a tenant.
pub(super) fn clients(context: &Context<'_>, field: &Field<ClientsFile>) -> Option<ClientFilter> {
    context.group(field, "clients", ClientFilter::default(), |context, file| {
        let prefixes = |field, name| context.list(field, name, |_, prefix: &Text<IpNet>| Some(prefix.0));
        let allow = prefixes(&file.allow, "allow");
        let deny = prefixes(&file.deny, "deny");
        Some(ClientFilter { allow: allow?, deny: deny? })
    })
}

const DEFAULT_HELLO: ClientHelloLimits =
    ClientHelloLimits { timeout: std::time::Duration::from_secs(5), max_bytes: HELLO_BYTES as usize };
/// Below a round trip nobody can connect.
const SHORTEST_HELLO: Span = Span::millis(10);
/// Beyond this, slow clients hold their permits for nothing.
const LONGEST_HELLO: Span = Span::minutes(5);

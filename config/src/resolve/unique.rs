//! What can be there only once: names of tenants and listeners, hostnames, addresses. One hash map each, so that
//! a million hostnames are no problem.

use std::net::SocketAddr;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::context::Context;
use super::seen::Seen;
use crate::error::Position;
use crate::field::Field;
use crate::file::ConfigFile;
use crate::hostname::HostnamePattern;
use crate::model::PortRange;
use crate::text::Text;

/// The index of each tenant by its name.
pub(super) fn tenant_names<'f>(context: &Context<'_>, file: &'f ConfigFile) -> HashMap<&'f str, usize> {
    let mut indices = HashMap::new();
    let mut names = Seen::new();
    for (index, field) in file.tenants.value().into_iter().flatten().enumerate() {
        if let Some(name) = field.value().and_then(|tenant| tenant.name.value()) {
            indices.entry(name.0.0.as_str()).or_insert(index);
        }
    }
    context.list(&file.tenants, "tenants", |context, tenant| {
        let name = tenant.name.value()?.0.0.as_str();
        let place = names.before(name, (), tenant.name.at())?.1;
        context.error(&tenant.name, "name", format!("`{name}` is already the name of the tenant at {place}"));
        Some(())
    });
    indices
}

/// No hostname is claimed twice.
pub(super) fn hostnames(context: &Context<'_>, file: &ConfigFile) {
    let mut claims: Seen<&HostnamePattern, Option<&str>> = Seen::new();
    context.list(&file.tenants, "tenants", |context, tenant| {
        let claimant = tenant.name.value().map(|name| name.0.0.as_str());
        context.list(&tenant.hostnames, "hostnames", |context, hostname| {
            let (owner, place) = claims.before(&hostname.0, claimant, context.at)?;
            let hostname = &hostname.0;
            let message = match (owner, claimant) {
                (Some(owner), Some(claimant)) if owner == claimant => {
                    format!("`{hostname}` is already listed at {place}")
                }
                _ => format!(
                    "`{hostname}` is claimed by tenant `{}` and, at {place}, by tenant `{}`: a name has one tenant",
                    claimant.unwrap_or("?"),
                    owner.unwrap_or("?")
                ),
            };
            context.report.error(context.at, context.path, message);
            Some(())
        })
    });
}

/// Listeners have different names, and they and the admin endpoint have different addresses.
pub(super) fn listeners(context: &Context<'_>, file: &ConfigFile) {
    let mut names = Seen::new();
    let mut addresses: Seen<SocketAddr, &str> = Seen::new();
    if let Some(admin) = file.admin.value()
        && let Some(address) = admin.address.value()
    {
        addresses.before(address.0.0, "the admin endpoint", admin.address.at());
    }
    context.list(&file.listeners, "listeners", |context, listener| {
        if let Some(name) = listener.name.value().map(|name| name.0.0.as_str())
            && let Some(((), place)) = names.before(name, (), listener.name.at())
        {
            let message = format!("`{name}` is already the name of the listener at {place}");
            context.error(&listener.name, "name", message);
        }
        let address = listener.address.value()?.0.0;
        // With port 0 each gets a port of its own.
        if address.port() != 0
            && let Some((owner, place)) = addresses.before(address, "a listener", listener.address.at())
        {
            let message = format!("`{address}` is already the address of {owner} at {place}");
            context.error(&listener.address, "address", message);
        }
        Some(())
    });
}

/// No port of a prefix is steered twice, nor taken from the listener, or the admin endpoint, that is bound to it.
pub(super) fn steered(context: &Context<'_>, file: &ConfigFile) {
    let mut claims: HashMap<IpNet, Vec<Claim>> = HashMap::new();
    let mut bound = |address: SocketAddr, owner: Option<usize>, at: Position| {
        let ports = PortRange { first: address.port(), last: address.port() };
        claims.entry(address.ip().into()).or_default().push(Claim { ports, owner, steered: false, at });
    };
    if let Some(Text(address)) = file.admin.value().and_then(|admin| admin.address.value()) {
        bound(address.0, None, file.admin.at());
    }
    for (index, listener) in file.listeners.value().into_iter().flatten().enumerate() {
        if let Some(listener) = listener.value()
            && let Some(Text(address)) = listener.address.value()
        {
            bound(address.0, Some(index), listener.address.at());
        }
    }
    let mut index = 0;
    context.list(&file.listeners, "listeners", |context, listener| {
        let owner = Some(index);
        index += 1;
        context.list(&listener.steer, "steer", |context, Text(steer)| {
            let others = claims.entry(steer.prefix).or_default();
            let in_the_way = |claim: &&Claim| {
                (claim.steered || claim.owner != owner)
                    && claim.ports.first <= steer.ports.last
                    && steer.ports.first <= claim.ports.last
            };
            match others.iter().find(in_the_way) {
                Some(other) => {
                    let (prefix, at) = (steer.prefix, other.at);
                    let message = if other.owner == owner {
                        format!("ports of `{prefix}` are already listed at {at}")
                    } else if other.steered {
                        let (this, other) = (listener_name(file, owner), listener_name(file, other.owner));
                        format!("ports of `{prefix}` are steered to {this} and, at {at}, to {other}: a port has one")
                    } else {
                        format!("takes the address of {} at {at}", listener_name(file, other.owner))
                    };
                    context.report.error(context.at, context.path, message);
                }
                None => others.push(Claim { ports: steer.ports, owner, steered: true, at: context.at }),
            }
            Some(())
        })
    });
}

fn listener_name(file: &ConfigFile, index: Option<usize>) -> String {
    let Some(index) = index else { return "the admin endpoint".to_owned() };
    let listener = file.listeners.value().and_then(|listeners| listeners.get(index)).and_then(Field::value);
    match listener.and_then(|listener| listener.name.value()) {
        Some(Text(name)) => format!("listener `{}`", name.0),
        None => format!("listeners[{index}]"),
    }
}

/// Ports of one prefix that belong to somebody.
struct Claim {
    ports: PortRange,
    /// A listener's index; `None` for the admin endpoint.
    owner: Option<usize>,
    steered: bool,
    at: Position,
}

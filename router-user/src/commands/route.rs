//! `sni-router route`: the routing policy, asked by a person.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use config::Tenant;

use super::load;
use crate::failure::Failure;
use crate::routing::{Decision, Question, Refusal, Routing};

/// Prints where `name` would go from a client that nobody denies.
pub fn route(path: &Path, name: &str, listener: Option<&str>) -> Result<(), Failure> {
    let config = load(path)?;
    let listener = match listener {
        None => &config.listeners[0],
        Some(wanted) => config.listeners.iter().find(|listener| listener.name == wanted).ok_or_else(|| {
            let names = config.listeners.iter().map(|listener| listener.name.as_str()).collect::<Vec<_>>().join(", ");
            Failure::Input(format!("no listener is named {wanted:?}; there are: {names}"))
        })?,
    };
    let question = Question { listener, client: IpAddr::V4(Ipv4Addr::LOCALHOST), server_name: Some(name) };
    let answer = match Routing::new(&config).decide(&config, question) {
        Decision::Passthrough { tenant, rule } => {
            let tenant = &config.tenants[tenant];
            format!("{name} -> tenant {} (Passthrough to {}), by {}", tenant.name, backends(tenant), rule.describe())
        }
        Decision::Terminate { tenant, rule } => {
            let tenant = &config.tenants[tenant];
            format!("{name} -> tenant {} (Terminate, then {}), by {}", tenant.name, backends(tenant), rule.describe())
        }
        Decision::Reject(Refusal::UnknownName | Refusal::NoServerName) => {
            format!("{name} -> rejected with unrecognized_name (112): no tenant claims it")
        }
        Decision::Reject(Refusal::ClientDenied { tenant }) => {
            format!("{name} -> tenant {}, which denies clients on this host", config.tenants[tenant].name)
        }
    };
    writeln!(std::io::stdout(), "{answer}").map_err(|error| Failure::System(error.to_string()))
}

fn backends(tenant: &Tenant) -> String {
    let addresses: Vec<_> = tenant.backends.iter().map(|backend| backend.address.to_string()).collect();
    addresses.join(", ")
}

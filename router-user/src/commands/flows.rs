//! `sni-router flows`: the connections that the kernel carries, shown or ended.

use std::io::Write;
use std::path::Path;

use config::Config;
use router_common::name_hash;

use super::load;
use crate::ebpf::cut_through::{CarriedFlow, end, list};
use crate::failure::Failure;

/// Prints one line for each, of all tenants or of one; or resets both ends of each.
pub fn flows(path: &Path, tenant: Option<&str>, ending: bool) -> Result<(), Failure> {
    let config = load(path)?;
    let wanted = tenant.map(name_hash);
    let chosen = |flow: &CarriedFlow| wanted.is_none_or(|wanted| flow.identity.names[1] == wanted);
    let failed = |error: crate::ebpf::Unavailable| Failure::System(error.to_string());
    let mut output = std::io::stdout().lock();
    let print = |error: std::io::Error| Failure::System(error.to_string());
    if ending {
        let ended = end(&config.runtime_dir, chosen).map_err(failed)?;
        return writeln!(output, "{ended} ended").map_err(print);
    }
    for flow in list(&config.runtime_dir).map_err(failed)?.iter().filter(|flow| chosen(flow)) {
        writeln!(output, "{}", line(&config, flow)).map_err(print)?;
    }
    Ok(())
}

fn line(config: &Config, flow: &CarriedFlow) -> String {
    let configured = config.tenants.iter().find(|tenant| name_hash(&tenant.name) == flow.identity.names[1]);
    let known = flow.known.as_ref();
    let tenant = configured.map(|tenant| &tenant.name).or_else(|| known.map(|known| &known.tenant));
    let server_name = known.and_then(|known| known.server_name.as_ref());
    format!(
        "{} -> {}  {}tenant {}{}, {} bytes to the backend, {} to the client, silent for {} s",
        flow.client,
        flow.backend,
        server_name.map(|name| format!("{name}, ")).unwrap_or_default(),
        tenant.map_or("", |tenant| tenant),
        if configured.is_some() { "" } else { " (not in the configuration)" },
        flow.client_to_backend,
        flow.backend_to_client,
        flow.silent.as_secs(),
    )
}

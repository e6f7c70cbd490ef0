//! What the demo tells the person in front of it.

use std::env;
use std::path::Path;

use super::files::Files;
use super::folder::Folder;
use super::self_check::Seen;
use super::{Options, PASSTHROUGH_NAME, TERMINATED_NAME};

/// Everything on one screen of 80 columns, as long as the paths are short.
pub(super) fn show(options: &Options, folder: &Folder, files: &Files, seen: &Seen) {
    let port = options.listen.port();
    let address = options.listen.ip();
    let whose = match files.acme_uid {
        Some(uid) => format!("uid {uid}"),
        None => "your uid".to_owned(),
    };
    println!(
        "
sni-router listens on {}: two tenants, one port

  {PASSTHROUGH_NAME}   Passthrough   the backend itself saw the client: {}
  {TERMINATED_NAME}   Terminate     TLS ends in sni-terminator ({whose}), {}

Try it in another terminal:

  curl --resolve {PASSTHROUGH_NAME}:{port}:{address} \\
    --cacert {} \\
    --cert {} \\
    --key {} \\
    https://{PASSTHROUGH_NAME}:{port}/

  curl --resolve {TERMINATED_NAME}:{port}:{address} \\
    --cacert {} \\
    https://{TERMINATED_NAME}:{port}/

  curl http://{}/metrics
",
        options.listen,
        seen.client_name,
        seen.key_exchange,
        short(&files.authority),
        short(&files.client.certificate),
        short(&files.client.key),
        short(&files.authority),
        options.admin,
    );
    println!("configuration  {}", short(&files.config));
    println!("log            {}", short(&files.log));
    if files.acme_uid.is_none() {
        println!("off            a uid of its own for each process: that needs root");
    }
    for note in folder.notes() {
        println!("note           {note}");
    }
    println!("\nCtrl-C stops it.");
}

/// Relative to where the person stands, when it lies below.
fn short(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

//! `sni-router upgrade`: asks a running sni-router, at its admin socket, to have the programs that are on disk now take over.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::load;
use crate::admin::admin_socket;
use crate::failure::Failure;

/// Resolves to success when another router has taken over; what keeps it from that is told.
pub fn upgrade(config_file: &Path) -> Result<(), Failure> {
    let config = load(config_file)?;
    let socket = admin_socket(&config.runtime_dir);
    let failed = |error: io::Error| {
        let advice = " (does it run with this runtimeDir? its own user may ask, nobody else)";
        Failure::System(format!("ask {} for an upgrade: {error}{advice}", socket.display()))
    };
    let answer = ask(&socket).map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
    match head.split(' ').nth(1) {
        Some("200") => io::stdout().write_all(body.as_bytes()).map_err(failed),
        _ => Err(Failure::System(body.trim_end().to_owned())),
    }
}

/// One HTTP/1.0 request: the answer ends with the connection.
fn ask(socket: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "POST /v1/upgrade HTTP/1.0\r\nHost: sni-router\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Longer than the supervisor waits for the new router.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

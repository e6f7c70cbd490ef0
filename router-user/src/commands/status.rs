//! `sni-router status`: asks a running router's admin endpoint, and shows what it says. Reads nothing else.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::status::screen;

/// Prints the status of the router behind `admin`: a socket's path, or `http://HOST:PORT`.
pub fn status(admin: &str, as_json: bool) -> Result<(), Failure> {
    let endpoint = Endpoint::parse(admin)?;
    let text = if as_json {
        let (tenants, certificates, backends): (Value, Value, Value) =
            (endpoint.get("/v1/tenants")?, endpoint.get("/v1/certificates")?, endpoint.get("/v1/backends")?);
        let mut document = tenants;
        document["certificates"] = certificates["certificates"].clone();
        document["trust"] = certificates["trust"].clone();
        document["backends"] = backends["backends"].clone();
        format!("{:#}\n", json!(document))
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        screen(
            &endpoint.get("/v1/tenants")?,
            &endpoint.get("/v1/certificates")?,
            &endpoint.get("/v1/backends")?,
            i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        )
    };
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::System(format!("write the answer: {error}")))
}

enum Endpoint<'a> {
    Socket(&'a Path),
    Tcp(&'a str),
}

impl<'a> Endpoint<'a> {
    fn parse(text: &'a str) -> Result<Self, Failure> {
        if let Some(rest) = text.strip_prefix("http://") {
            Ok(Self::Tcp(rest.trim_end_matches('/')))
        } else if text.contains("://") {
            Err(Failure::Input(format!("--admin {text}: write http://HOST:PORT or the path of a socket")))
        } else {
            Ok(Self::Socket(Path::new(text.strip_prefix("unix:").unwrap_or(text))))
        }
    }

    fn get<T: DeserializeOwned>(&self, page: &str) -> Result<T, Failure> {
        let body = match self {
            Self::Socket(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                ask(stream, page)
            }),
            Self::Tcp(address) => TcpStream::connect(address).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                ask(stream, page)
            }),
        };
        let failed = |error: &dyn std::fmt::Display| {
            Failure::System(format!("ask {} for {page}: {error}{}", self.name(), self.advice()))
        };
        let body = body.map_err(|error| failed(&error))?;
        serde_json::from_str(&body).map_err(|error| failed(&error))
    }

    fn name(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Tcp(address) => format!("http://{address}"),
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Socket(_) => {
                " (does it run? --admin takes runtimeDir/admin.sock, which its own user may open, or admin.address as http://HOST:PORT)"
            }
            Self::Tcp(_) => "",
        }
    }
}

/// One HTTP/1.0 request: the answer ends with the connection, and is never chunked (RFC 9112 section 6.3, item 8).
fn ask(mut stream: impl Read + Write, page: &str) -> io::Result<String> {
    write!(stream, "GET {page} HTTP/1.0\r\nHost: sni-router\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned())),
    }
}

/// A terminator that does not answer is waited for one second, all of them at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// Some hundred thousand tenants.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_sockets_or_addresses() {
        assert!(
            matches!(Endpoint::parse("/run/x/admin.sock"), Ok(Endpoint::Socket(path)) if path.ends_with("admin.sock"))
        );
        assert!(matches!(Endpoint::parse("unix:/run/x.sock"), Ok(Endpoint::Socket(_))));
        assert!(matches!(Endpoint::parse("http://127.0.0.1:9901/"), Ok(Endpoint::Tcp("127.0.0.1:9901"))));
        assert!(Endpoint::parse("https://127.0.0.1").is_err());
    }
}

//! One request with each of the real clients: knows their command lines, and nothing about what is asked.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::authority::PemFiles;
use crate::client_tools::{Tool, curl_cffi_script, go_client, require};

/// A program that people use, in the form that scenarios run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealClient {
    /// curl with Debian's OpenSSL.
    Curl,
    /// `openssl s_client`, the request on its standard input.
    OpenSsl,
    /// gnutls-cli, the request on its standard input.
    GnuTls,
    /// net/http of Go.
    Go,
    /// curl_cffi with the hello of a current Chrome.
    Chrome,
    /// curl_cffi with the hello of a current Firefox.
    Firefox,
}

/// What to ask, and as whom.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the router listens.
    pub router: SocketAddr,
    /// Server name, Host header and the name in the certificate.
    pub name: String,
    /// The authority to trust.
    pub authority: PathBuf,
    /// The client's certificate.
    pub identity: Option<PemFiles>,
}

impl RealClient {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Curl, Self::OpenSsl, Self::GnuTls, Self::Go, Self::Chrome, Self::Firefox];

    /// What it gets for `GET /`, as text with or without the header; `None` when its program is not installed.
    pub fn get(self, request: &Request) -> Result<Option<String>> {
        let Some(program) = require(self.tool(), &format!("a request with {self:?}"))? else { return Ok(None) };
        let text = match self {
            Self::Curl => run(curl(&program, request)),
            Self::OpenSsl => ask(openssl(&program, request), request),
            Self::GnuTls => ask(gnutls(&program, request), request),
            Self::Go => run(go(request)?),
            Self::Chrome => run(browser(&program, "chrome", request)),
            Self::Firefox => run(browser(&program, "firefox", request)),
        };
        text.map(Some).with_context(|| format!("{self:?} to {}", request.name))
    }

    fn tool(self) -> Tool {
        match self {
            Self::Curl => Tool::Curl,
            Self::OpenSsl => Tool::OpenSsl,
            Self::GnuTls => Tool::GnuTlsCli,
            Self::Go => Tool::Go,
            Self::Chrome | Self::Firefox => Tool::CurlCffi,
        }
    }
}

fn curl(program: &Path, request: &Request) -> Command {
    let mut curl = Command::new(program);
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "30", "--resolve", &resolve(request)]);
    curl.arg("--cacert").arg(&request.authority).arg(url(request));
    if let Some(identity) = &request.identity {
        curl.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key);
    }
    curl
}

fn openssl(program: &Path, request: &Request) -> Command {
    let mut client = Command::new(program);
    client.args(["s_client", "-quiet", "-verify_return_error", "-connect", &request.router.to_string()]);
    client.args(["-servername", &request.name, "-verify_hostname", &request.name, "-CAfile"]).arg(&request.authority);
    if let Some(identity) = &request.identity {
        client.arg("-cert").arg(&identity.certificate).arg("-key").arg(&identity.key);
    }
    client
}

fn gnutls(program: &Path, request: &Request) -> Command {
    let mut client = Command::new(program);
    client.args(["--logfile=/dev/null", "--sni-hostname", &request.name, "--verify-hostname", &request.name]);
    client.arg("--x509cafile").arg(&request.authority);
    if let Some(identity) = &request.identity {
        client.arg("--x509certfile").arg(&identity.certificate).arg("--x509keyfile").arg(&identity.key);
    }
    client.args(["--port", &request.router.port().to_string(), &request.router.ip().to_string()]);
    client
}

fn go(request: &Request) -> Result<Command> {
    let mut client = Command::new(go_client()?);
    client.args(["-address", &request.router.to_string(), "-url", &url(request), "-ca"]).arg(&request.authority);
    if let Some(identity) = &request.identity {
        client.arg("-cert").arg(&identity.certificate).arg("-key").arg(&identity.key);
    }
    Ok(client)
}

fn browser(python: &Path, profile: &str, request: &Request) -> Command {
    let mut client = Command::new(python);
    client.arg(curl_cffi_script()).args(["--profile", profile, "--url", &url(request)]);
    client.args(["--resolve", &resolve(request), "--ca"]).arg(&request.authority);
    if let Some(identity) = &request.identity {
        client.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key);
    }
    client
}

fn url(request: &Request) -> String {
    format!("https://{}:{}/", request.name, request.router.port())
}

fn resolve(request: &Request) -> String {
    format!("{}:{}:{}", request.name, request.router.port(), request.router.ip())
}

fn run(mut command: Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output().context("start")?;
    if !done.status.success() {
        bail!("{}: {}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    String::from_utf8(done.stdout).context("the answer is text")
}

/// For clients that pass on their standard input: it stays open until they end, or they would leave without the answer.
fn ask(mut command: Command, request: &Request) -> Result<String> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start")?;
    let mut stdin = child.stdin.take().context("the standard input is a pipe")?;
    write!(stdin, "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", request.name).context("send")?;
    stdin.flush().context("send")?;
    let mut answer = String::new();
    child.stdout.take().context("the standard output is a pipe")?.read_to_string(&mut answer).context("answer")?;
    let mut complaint = String::new();
    child.stderr.take().context("the standard error is a pipe")?.read_to_string(&mut complaint).context("error")?;
    drop(stdin);
    let status = child.wait().context("wait")?;
    if !status.success() {
        bail!("{status}: {complaint}");
    }
    Ok(answer)
}

//! `openssl s_client` as a client that says everything: what it was served with, and which alert ended it.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::authority::PemFiles;

/// One connection to be made, with one request on it.
pub struct SClient {
    command: Command,
    name: String,
}

/// What the program printed.
#[derive(Debug)]
pub struct Said(pub String);

impl SClient {
    /// To this address for this name; it trusts whatever it is served.
    pub fn new(program: PathBuf, router: SocketAddr, name: &str) -> Self {
        let mut command = Command::new(program);
        command.args(["s_client", "-ign_eof", "-connect", &router.to_string(), "-servername", name]);
        Self { command, name: name.to_owned() }
    }

    /// With a further option, such as `-tls1_2`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.command.arg(option);
        self
    }

    /// With an option and its value.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.arg(option).arg(value);
        self
    }

    /// With this certificate.
    #[must_use]
    pub fn identity(self, files: &PemFiles) -> Self {
        self.with("-cert", &files.certificate).with("-key", &files.key)
    }

    /// Connects, asks for `/`, and waits until the server ends it.
    pub fn run(mut self) -> Result<Said> {
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start openssl")?;
        let mut stdin = child.stdin.take().context("the standard input is a pipe")?;
        // It may have ended with an alert already.
        let _ = write!(stdin, "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.name);
        let _ = stdin.flush();
        let mut output = Vec::new();
        child.stdout.take().context("the standard output is a pipe")?.read_to_end(&mut output).context("output")?;
        child.stderr.take().context("the standard error is a pipe")?.read_to_end(&mut output).context("errors")?;
        drop(stdin);
        child.wait().context("wait for openssl")?;
        Ok(Said(String::from_utf8_lossy(&output).into_owned()))
    }
}

impl Said {
    /// The alert by which the server ended the connection.
    pub fn alert(&self) -> Option<u8> {
        let after = self.0.split("SSL alert number ").nth(1)?;
        after.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    }

    /// Whether an HTTP answer came.
    pub fn is_answered(&self) -> bool {
        self.0.contains("HTTP/1.1 200")
    }

    /// Whether a session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.0.contains("\nReused, ")
    }
}

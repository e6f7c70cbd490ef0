//! grpcio as manager and provider of a gRPC service with mutual TLS: programs of their own, driven line by line.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::authority::PemFiles;
use crate::client_tools::grpc_script;

/// Who serves. Reads its certificate's files anew for each connection.
pub struct Provider {
    _process: Program,
    address: SocketAddr,
}

/// Who calls.
pub struct Manager(Program);

impl Provider {
    /// Starts on a free port, trusting clients of this CA file.
    pub fn start(python: &Path, name: &str, own: &PemFiles, client_ca: &Path) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(grpc_script("provider.py")).args(["--name", name]);
        command.arg("--cert").arg(&own.certificate).arg("--key").arg(&own.key).arg("--client-ca").arg(client_ca);
        let mut process = Program::start(command)?;
        let port = process.line()?.trim().parse().context("the provider's port")?;
        Ok(Self { _process: process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Manager {
    /// Will connect to `router` for `name`, trusting this CA file.
    pub fn start(python: &Path, router: SocketAddr, name: &str, ca: &Path, own: &PemFiles) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(grpc_script("manager.py")).args(["--address", &router.to_string(), "--name", name]);
        command.arg("--ca").arg(ca).arg("--cert").arg(&own.certificate).arg("--key").arg(&own.key);
        Program::start(command).map(Self)
    }

    /// A unary call on the present connection.
    pub fn call(&mut self) -> Result<Value> {
        self.0.ask("call")
    }

    /// One more message on a stream that stays open.
    pub fn watch(&mut self) -> Result<Value> {
        self.0.ask("watch")
    }

    /// Gives the connection up and calls on a new one.
    pub fn call_anew(&mut self) -> Result<Value> {
        self.0.ask("renew")?;
        self.call()
    }
}

/// A Python program. Ended when dropped.
struct Program {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(mut command: Command) -> Result<Self> {
        // Its log lines about refused handshakes are the scenarios' purpose and nobody's news.
        command.env("GRPC_VERBOSITY", "NONE").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start Python")?;
        let stdin = child.stdin.take().context("the standard input is a pipe")?;
        let stdout = BufReader::new(child.stdout.take().context("the standard output is a pipe")?);
        Ok(Self { child, stdin, stdout })
    }

    fn ask(&mut self, command: &str) -> Result<Value> {
        writeln!(self.stdin, "{command}").with_context(|| format!("say {command}"))?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("answer to {command}: {line:?}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).context("read a line")?;
        Ok(line)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

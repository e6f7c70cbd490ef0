//! A started `sni-terminator serve`, with the test in the router's place. Killed when dropped.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use connection::ConnectionId;
use connection::clock::monotonic_ns;
use connection::handoff::{Handoff, HandoffError, HandoffSender, TerminatorStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use rustix::thread::set_thread_res_uid;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::patience::{PATIENCE, eventually, soon};
use super::pki::Pair;

/// What the configuration of a test says; everything has a default that works.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    pub(crate) backend: SocketAddr,
    pub(crate) hostnames: &'static str,
    /// Further lines of the tenant, without indentation.
    pub(crate) tenant: String,
    /// Further fields of `tls`, beginning with a comma.
    pub(crate) tls: String,
    /// Further fields of the listener, beginning with a comma.
    pub(crate) listener: &'static str,
    pub(crate) supervised: bool,
    /// A file in the folder for the access log.
    pub(crate) access_log: Option<&'static str>,
    /// Filled by [`Setup::certificate`].
    pub(crate) secrets: Vec<PathBuf>,
}

impl Setup {
    pub(crate) fn new(backend: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The terminator looks here under another uid when the test is root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            folder,
            backend,
            hostnames: "api.acme.example, '*.acme.example'",
            tenant: String::new(),
            tls: String::new(),
            listener: "",
            supervised: false,
            access_log: None,
            secrets: Vec::new(),
        }
    }

    /// Adds a certificate; the folder it lies in.
    pub(crate) fn certificate(&mut self, pair: &Pair) -> PathBuf {
        let folder = self.folder.path().join(format!("secret-{}", self.secrets.len()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("tls.crt"), &pair.chain_pem).unwrap();
        fs::write(folder.join("tls.key"), &pair.key_pem).unwrap();
        self.secrets.push(folder.clone());
        folder
    }

    /// Writes a file beside the certificates.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn yaml(&self) -> String {
        let mut yaml = String::new();
        if let Some(file) = self.access_log {
            writeln!(yaml, "accessLog: {{path: '{}'}}", self.folder.path().join(file).display()).unwrap();
        }
        let secrets: Vec<_> =
            self.secrets.iter().map(|folder| format!("{{secretDir: '{}'}}", folder.display())).collect();
        let (backend, tls) = (self.backend, &self.tls);
        write!(
            yaml,
            "workers: 2\nlisteners: [{{name: tls, address: '127.0.0.1:8443'{}}}]\n\
             tenants:\n\
             - name: acme\n  hostnames: [{}]\n  mode: Terminate\n  backends: [{{address: '{backend}'}}]\n  \
               tls: {{certificates: [{}]{tls}}}\n",
            self.listener,
            self.hostnames,
            secrets.join(", "),
        )
        .unwrap();
        for line in self.tenant.lines() {
            writeln!(yaml, "  {line}").unwrap();
        }
        yaml
    }

    /// Starts the binary and does not wait for anything.
    pub(crate) fn launch(self) -> Terminator {
        let config = self.file("config.yaml", &self.yaml());
        let runtime = self.folder.path().join("runtime");
        fs::create_dir(&runtime).unwrap();
        // What the supervisor does: the folder belongs to the tenant.
        if geteuid().is_root() {
            let uid = config::Config::load(&config).unwrap().tenant_uid("acme");
            chown(&runtime, uid, uid).unwrap();
        }
        let socket = runtime.join("handoff.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sni-terminator"));
        command.args(["serve", "--tenant", "acme", "--config"]).arg(&config).arg("--socket").arg(&socket);
        if self.supervised {
            command.arg("--supervised").stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
        }
        let mut child = command.env("SNI_ROUTER_LOG", "debug").stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::follow(child.stderr.take().unwrap());
        let lifeline = child.stdin.take();
        Terminator { child, log, socket, lifeline, folder: self.folder }
    }

    /// Starts the binary and connects to it.
    pub(crate) async fn start(self) -> (Terminator, HandoffSender) {
        let terminator = self.launch();
        let router = terminator.connect().await;
        (terminator, router)
    }
}

/// The process.
pub(crate) struct Terminator {
    child: Child,
    pub(crate) log: Log,
    pub(crate) socket: PathBuf,
    /// The supervisor's end of the lifeline.
    pub(crate) lifeline: Option<ChildStdin>,
    pub(crate) folder: TempDir,
}

impl Terminator {
    /// A channel to it, as soon as it listens.
    pub(crate) async fn connect(&self) -> HandoffSender {
        eventually("the terminator listens", async || connect_as_the_router(&self.socket).ok()).await
    }

    /// A channel of a process of this test's own uid.
    pub(crate) async fn connect_as_ourselves(&self) -> HandoffSender {
        eventually("the terminator listens", async || HandoffSender::connect(&self.socket).ok()).await
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub(crate) async fn exit_status(&mut self) -> ExitStatus {
        eventually("the terminator ends", async || self.child.try_wait().unwrap()).await
    }

    /// A file of /proc about the process.
    pub(crate) fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.pid().to_string()).join(file)
    }
}

/// Under the uid that a router of a root supervisor has; without root that is the test's own. The uid of the moment of
/// connect(2) counts, and on Linux it belongs to the thread.
fn connect_as_the_router(socket: &Path) -> Result<HandoffSender, HandoffError> {
    if !geteuid().is_root() {
        return HandoffSender::connect(socket);
    }
    let runtime = tokio::runtime::Handle::current();
    let connect = || {
        let _runtime = runtime.enter();
        let router = rustix::process::Uid::from_raw(config::DEFAULT_ROUTER_UID);
        set_thread_res_uid(router, router, router).unwrap();
        HandoffSender::connect(socket)
    };
    std::thread::scope(|scope| scope.spawn(connect).join().unwrap())
}

impl Drop for Terminator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process wrote to its standard error.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn follow(stderr: impl io::Read + Send + 'static) -> Self {
        let log = Self(Arc::default());
        let lines = Arc::clone(&log.0);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        log
    }

    /// The first line that contains all of these.
    pub(crate) async fn line_with(&self, parts: &[&str]) -> String {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let found =
                    self.0.lock().unwrap().iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned();
                match found {
                    Some(line) => return line,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("no line with {parts:?} in:\n{}", self.0.lock().unwrap().join("\n")))
    }
}

/// A hand-off as the router would write it, with five seconds left.
pub(crate) fn handoff(server_name: Option<&str>) -> Handoff {
    Handoff {
        id: ConnectionId(7),
        listener: "tls".into(),
        client: ([192, 0, 2, 7], 50_000).into(),
        local: ([127, 0, 0, 1], 8443).into(),
        server_name: server_name.map(str::to_owned),
        alpn: Vec::new(),
        ja4: String::new(),
        has_source_socket: false,
        accepted_monotonic_ns: monotonic_ns(Instant::now()),
        accepted_unix_ms: 0,
        deadline_monotonic_ns: monotonic_ns(Instant::now() + Duration::from_secs(5)),
        hello_ms: 0.5,
    }
}

/// Makes a TCP connection and hands its accepted end over; the client's end.
pub(crate) async fn try_hand_over(router: &HandoffSender, handoff: &Handoff) -> Result<TcpStream, HandoffError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    soon("the hand-off is taken", router.send(handoff, accepted.as_fd())).await?;
    Ok(client)
}

/// The same for a connection that was routed by this name.
pub(crate) async fn hand_over(router: &HandoffSender, server_name: &str) -> TcpStream {
    try_hand_over(router, &handoff(Some(server_name))).await.unwrap()
}

/// A port whose connections are all handed over, for clients that are programs of their own.
pub(crate) async fn front(router: HandoffSender, server_name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (accepted, _) = listener.accept().await.unwrap();
            router.send(&handoff(Some(server_name)), accepted.as_fd()).await.unwrap();
        }
    });
    address
}

/// Waits until the status is as it should be.
pub(crate) async fn status_shows(router: &HandoffSender, what: &str, of: impl Fn(&TerminatorStatus) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = soon("the status comes", router.status()).await.unwrap();
        if of(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "did not happen: {what}; {status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Failed handshakes of this reason.
pub(crate) fn failed_handshakes(status: &TerminatorStatus, reason: &str) -> u64 {
    status.handshakes.iter().filter(|count| count.outcome == "failed" && count.reason == reason).map(|c| c.count).sum()
}

/// Connections that ended so.
pub(crate) fn ended(status: &TerminatorStatus, outcome: &str) -> u64 {
    status.connections.iter().filter(|count| count.outcome == outcome).map(|count| count.count).sum()
}

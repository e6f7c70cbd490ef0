//! What somebody who has taken a terminator over would try, tried from inside the confinement. For tests: only debug
//! builds have it, behind the hidden command `attempt`.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::{prctl, ptrace};
use nix::unistd::{Pid, Uid, setuid};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, ipproto, socket};

/// Tries each of these (`what` or `what=target`) and prints one line for each: what was tried and how it went.
pub(crate) fn attempt_all(attempts: &[String]) {
    for attempt in attempts {
        match try_one(attempt) {
            Ok(()) => println!("{attempt}: possible"),
            Err(reason) => println!("{attempt}: denied: {reason}"),
        }
    }
}

fn try_one(attempt: &str) -> Result<(), String> {
    let (what, target) = attempt.split_once('=').unwrap_or((attempt, ""));
    let pid = || target.parse().map(Pid::from_raw).map_err(text);
    let address = || target.parse::<SocketAddr>().map_err(text);
    match what {
        "read" => File::open(target).and_then(|mut file| file.read(&mut [0; 1])).map(drop).map_err(text),
        "list" => fs::read_dir(target).map(drop).map_err(text),
        "write" => OpenOptions::new().create(true).append(true).open(target).map(drop).map_err(text),
        "execute" => Command::new(target).status().map(drop).map_err(text),
        "thread" => std::thread::Builder::new().spawn(|| ()).map(drop).map_err(text),
        "trace" => {
            let pid = pid()?;
            ptrace::seize(pid, ptrace::Options::empty()).map_err(text)?;
            // A tracee is let go with its tracer.
            Ok(())
        }
        "memory" => File::open(format!("/proc/{target}/mem")).map(drop).map_err(text),
        "signal" => kill(pid()?, Signal::SIGCONT).map_err(text),
        "connect" => TcpStream::connect_timeout(&address()?, PATIENCE).map(drop).map_err(text),
        "listen" => TcpListener::bind(address()?).map(drop).map_err(text),
        "raw-socket" => socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).map(drop).map_err(text),
        "datagram-socket" => socket(AddressFamily::INET, SocketType::DGRAM, None).map(drop).map_err(text),
        "hand-off" => hand_off(Path::new(target)),
        "become-root" => setuid(Uid::from_raw(0)).map_err(text),
        "namespace" => unshare(CloneFlags::CLONE_NEWUSER).map_err(text),
        "dump" => prctl::set_dumpable(true).map_err(text),
        _ => Err(format!("no such attempt: {what}")),
    }
}

fn hand_off(path: &Path) -> Result<(), String> {
    let channel = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).map_err(text)?;
    connect(&channel, &SocketAddrUnix::new(path).map_err(text)?).map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// A local address answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

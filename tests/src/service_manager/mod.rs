//! What systemd does for a service of Type=notify, as far as listening sockets go: passes those of a socket unit, keeps those
//! that it is given, and passes them to the next process.

mod raw;

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// One service's manager.
pub struct ServiceManager {
    path: PathBuf,
    /// Of its socket units, by their names.
    units: Vec<(String, TcpListener)>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    messages: Vec<String>,
    kept: Vec<(String, OwnedFd)>,
}

impl ServiceManager {
    /// Its notification socket is in this folder.
    pub fn start(folder: &Path) -> Result<Self> {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).context("bind the notification socket")?;
        let heard = Arc::<Mutex<Heard>>::default();
        let hearing = Arc::clone(&heard);
        thread::spawn(move || {
            while let Ok((message, descriptors)) = receive(&socket) {
                if message == END {
                    break;
                }
                lock(&hearing).hear(message, descriptors);
            }
        });
        Ok(Self { path, units: Vec::new(), heard })
    }

    /// A socket unit with this `FileDescriptorName=`.
    #[must_use]
    pub fn unit(mut self, name: &str, socket: TcpListener) -> Self {
        self.units.push((name.to_owned(), socket));
        self
    }

    /// How many sockets are kept under which name.
    pub fn kept(&self) -> BTreeMap<String, usize> {
        let mut kept = BTreeMap::new();
        for (name, _) in &lock(&self.heard).kept {
            *kept.entry(name.clone()).or_default() += 1;
        }
        kept
    }

    /// How often the service said that it is ready.
    pub fn times_ready(&self) -> usize {
        lock(&self.heard).messages.iter().filter(|message| message.contains("READY=1")).count()
    }

    /// The command that starts `program`, with all that it is to find.
    pub(crate) fn command(&self, program: &Path) -> Result<Command> {
        let mut command = Command::new("/bin/sh");
        // Only the process itself knows its pid.
        command.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]).arg(program).env("NOTIFY_SOCKET", &self.path);
        let heard = lock(&self.heard);
        let units = self.units.iter().map(|(name, socket)| (name, socket.as_fd()));
        let passed: Vec<_> = units.chain(heard.kept.iter().map(|(name, socket)| (name, socket.as_fd()))).collect();
        let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
        command.env("LISTEN_FDS", passed.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        let descriptors: Vec<_> = passed.iter().map(|(_, descriptor)| *descriptor).collect();
        raw::pass(&mut command, &descriptors).context("pass sockets")?;
        Ok(command)
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        // Its thread holds what is kept.
        let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(END.as_bytes(), &self.path));
    }
}

impl Heard {
    fn hear(&mut self, message: String, descriptors: Vec<OwnedFd>) {
        let name = message.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
        if message.lines().any(|line| line == "FDSTOREREMOVE=1") {
            self.kept.retain(|(kept, _)| *kept != name);
        }
        if message.lines().any(|line| line == "FDSTORE=1") {
            self.kept.extend(descriptors.into_iter().map(|descriptor| (name.clone(), descriptor)));
        }
        self.messages.push(message);
    }
}

fn receive(socket: &UnixDatagram) -> Result<(String, Vec<OwnedFd>)> {
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = descriptors.flatten().collect();
    Ok((String::from_utf8_lossy(buffer.get(..message.bytes).unwrap_or_default()).into_owned(), descriptors))
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

const END: &str = "the scenario is over";

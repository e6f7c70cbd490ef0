//! Only a tenant's terminator opens the tenant's certificate and key.
//!
//! Watched with fanotify(7), which names the process of every open on the marked files, whatever way it was made
//! (strace would miss io_uring, Landlock would show only that it was not needed). It needs root.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use tests::authority::{Authority, KeyKind};
use tests::client_tools::require_root;
use tests::fakes::{Echo, PlainHttp};
use tests::patience::eventually;
use tests::processes::{Pid, command_line};
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant, secret_dir};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn the_router_and_the_supervisor_never_open_a_key_file() {
    if !require_root("who opens key files").unwrap() {
        return;
    }
    let authority = Authority::new("scenario CA").unwrap();
    let acme = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let globex = authority.server(&["www.globex.test"], KeyKind::Ecdsa).unwrap();
    let (backend, echo) = (PlainHttp::start("backend").unwrap(), Echo::start().unwrap());
    let setup = Setup::new()
        .tenant(Tenant::terminate("acme", &[TERMINATE], backend.address(), &acme))
        .tenant(Tenant::terminate("globex", &["www.globex.test"], backend.address(), &globex))
        .tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()));
    let scratch = Scratch::new().unwrap();
    let written = setup.write(&scratch).unwrap();
    let acme_watch = Watch::on(&secret_dir(scratch.path(), "acme", 0));
    let globex_watch = Watch::on(&secret_dir(scratch.path(), "globex", 0));

    let router = RouterProcess::launch(scratch, written, "info").unwrap();
    router.wait_until_ready().unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    for name in [TERMINATE, "www.globex.test"] {
        assert_eq!(client.get(router.address(), name, "/").unwrap().status, 200);
    }
    acme_watch.assert_only(router.terminator_pid("acme").unwrap());
    globex_watch.assert_only(router.terminator_pid("globex").unwrap());
}

/// Remembers who opened the files of one secret.
struct Watch(Fanotify);

impl Watch {
    fn on(secret: &Path) -> Self {
        let init = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let fanotify = Fanotify::init(init, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC).unwrap();
        for file in ["tls.crt", "tls.key"] {
            let path = secret.join(file);
            fanotify.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN, nix::fcntl::AT_FDCWD, Some(&path)).unwrap();
        }
        Self(fanotify)
    }

    fn assert_only(&self, terminator: Pid) {
        let mut openers = BTreeSet::new();
        eventually(Duration::from_secs(5), "the terminator opens its key", || {
            match self.0.read_events() {
                Ok(events) => openers.extend(events.iter().map(|event| event.pid())),
                Err(Errno::EAGAIN) => {}
                Err(error) => panic!("read fanotify: {error}"),
            }
            openers.contains(&terminator).then_some(())
        })
        .unwrap();
        let described: Vec<_> = openers.iter().map(|pid| (pid, command_line(*pid))).collect();
        assert_eq!(openers, BTreeSet::from([terminator]), "{described:?}");
    }
}

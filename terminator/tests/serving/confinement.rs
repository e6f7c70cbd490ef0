//! What the process has given up by the time it serves, as the kernel sees it; and whom it refuses.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::geteuid;

use crate::support::backend::Backend;
use crate::support::patience::soon;
use crate::support::pki::{Authority, KeyKind};
use crate::support::process::Setup;

async fn setup() -> Setup {
    let mut setup = Setup::new(Backend::new().await.echo());
    setup.certificate(&Authority::new("a").server(&["api.acme.example"], KeyKind::Ecdsa));
    setup
}

#[tokio::test]
async fn no_thread_holds_a_privilege_when_clients_are_served() {
    let (terminator, _router) = setup().await.start().await;
    // It listens before it is confined, and accepts afterwards.
    terminator.log.line_with(&["confined", "uid=", "landlock_files", "seccomp"]).await;
    let mut threads = 0;
    for thread in fs::read_dir(terminator.proc("task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
            line.split_once(':').unwrap().1.trim().to_owned()
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(field("NoNewPrivs"), "1");
        assert_eq!((field("Seccomp"), field("Seccomp_filters")), ("2".into(), "1".into()));
        if geteuid().is_root() {
            assert_eq!(field("Groups"), "");
            for ids in [field("Uid"), field("Gid")] {
                let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
                assert!(ids.iter().all(|id| *id == ids[0] && (61_184..=65_519).contains(id)), "{ids:?}");
            }
        }
        threads += 1;
    }
    assert!(threads >= 3, "the main thread and two workers");
    let limits = fs::read_to_string(terminator.proc("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    if geteuid().is_root() {
        // The files of a process that is not dumpable belong to root (proc(5)).
        assert_eq!(fs::metadata(terminator.proc("mem")).unwrap().uid(), 0);
    }
}

#[tokio::test]
async fn every_part_of_the_confinement_is_in_the_status_and_required_is_content_with_it() {
    let mut setup = setup().await;
    setup.tenant = "sandbox: {policy: Required}".into();
    if !geteuid().is_root() {
        println!("skipped: only root can give the terminator a uid of its own");
        return;
    }
    let (_terminator, router) = setup.start().await;
    let status = soon("the status comes", router.status()).await.unwrap();
    let parts: Vec<_> = status.sandbox.iter().map(|part| part.part.as_str()).collect();
    assert_eq!(
        parts,
        [
            "no_new_privileges",
            "own_uid",
            "no_capabilities",
            "not_dumpable",
            "no_core_dumps",
            "locked_memory",
            "landlock_files",
            "landlock_network",
            "landlock_scopes",
            "seccomp"
        ]
    );
    for part in status.sandbox.iter().filter(|part| part.part != "locked_memory") {
        assert!(part.holds, "{}", part.part);
    }
}

#[tokio::test]
async fn a_peer_that_is_not_the_router_is_refused() {
    if !geteuid().is_root() {
        println!("skipped: only root can be another user than the router");
        return;
    }
    // Without `user` the router's uid is the default one, and root is nobody special.
    let terminator = setup().await.launch();
    let us = terminator.connect_as_ourselves().await;
    soon("the channel is closed", us.closed()).await;
    assert!(us.status().await.is_err());
    terminator.log.line_with(&["WARN", "refused a hand-off channel", "uid=0", "expected=61183"]).await;
}

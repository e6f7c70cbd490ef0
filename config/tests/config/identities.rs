//! Who runs as whom: uids and gids of the router and the terminators, and the paths of their sockets.

use std::path::Path;

use config::Config;

use crate::texts::{BASE, changed, spoiled};

const SANDBOX: &str = "mode: Terminate\n    sandbox: ";

#[test]
fn a_terminated_tenant_has_a_uid_that_only_its_name_decides() {
    let config = changed("user: 1000", "workers: 1");
    assert_eq!((config.tenant_uid("acme"), config.tenant_gid("acme")), (Some(65087), Some(65087)));
    assert_eq!((config.tenant_uid("pinniped"), config.tenant_uid("globex")), (None, None));
    assert_eq!(changed("name: pinniped", "name: initech").tenant_uid("acme"), Some(65087));
}

#[test]
fn explicit_ids_win_and_are_never_given_out() {
    let config = changed("mode: Terminate", &format!("{SANDBOX}{{ uid: 20001, gid: 20002, policy: BestEffort }}"));
    assert_eq!((config.tenant_uid("acme"), config.tenant_gid("acme")), (Some(20001), Some(20002)));
    let other = "  - name: taker\n    hostnames: [taker.example]\n    mode: Terminate\n    sandbox: { uid: 65087 }\n    \
                 tls: { certificates: [{ secretDir: /a }] }\n    backends: [{ address: \"10.0.0.1:1\" }]\n";
    let config = Config::from_yaml(&format!("{BASE}{other}")).unwrap();
    assert_eq!((config.tenant_uid("taker"), config.tenant_uid("acme")), (Some(65087), Some(65088)));
    // The router's uid is not given out either.
    assert_eq!(changed("user: 1000", "user: 65087").tenant_uid("acme"), Some(65088));
}

#[test]
fn ids_that_would_mix_up_trust_are_errors() {
    spoiled(
        "mode: Terminate",
        &format!("{SANDBOX}{{ uid: 0, gid: 0 }}"),
        &[
            "14:21: tenants[1].sandbox.uid: is 0, which is root: a terminator's uid is 1 or above",
            "14:29: tenants[1].sandbox.gid: is 0, which is root: a terminator's gid is 1 or above",
        ],
    );
    spoiled(
        "mode: Terminate",
        &format!("{SANDBOX}{{ uid: 1000 }}"),
        &["14:21: tenants[1].sandbox.uid: is 1000, the router's own: choose another, so that the router cannot reach \
           this tenant's keys"],
    );
    spoiled(
        "mode: Terminate",
        &format!("{SANDBOX}{{ uid: 4294967295 }}"),
        &["14:21: tenants[1].sandbox.uid: is 4294967295, beyond the highest uid 4294967294"],
    );
    let tenant = |name: &str| {
        format!(
            "  - name: {name}\n    hostnames: [{name}.example]\n    mode: Terminate\n    sandbox: {{ uid: 7 }}\n    \
             tls: {{ certificates: [{{ secretDir: /a }}] }}\n    backends: [{{ address: \"10.0.0.1:1\" }}]\n"
        )
    };
    let errors = Config::from_yaml(&format!("{BASE}{}{}", tenant("one"), tenant("two"))).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "27:21: tenants[3].sandbox.uid: is 7, which is also the uid of tenant `one` at 21:21: each tenant needs its own"
    );
    spoiled("user: 1000", "user: root", &["1:7: user: is root: the router must drop to a user without privileges"]);
    spoiled("user: 1000", "user: 0", &["1:7: user: is root: the router must drop to a user without privileges"]);
    spoiled("user: 1000", "user: -1", &["1:7: user: expected a uid from 1 to 4294967294, found -1"]);
    let uid = "14:21: tenants[1].sandbox.uid: is 61183, the router's own: choose another, so that the router cannot reach \
               this tenant's keys";
    let text = BASE.replace("user: 1000\n", "\n").replace("mode: Terminate", &format!("{SANDBOX}{{ uid: 61183 }}"));
    assert_eq!(Config::from_yaml(&text).unwrap_err().to_string(), uid);
}

#[test]
fn the_uid_range_is_upright_unprivileged_and_large_enough() {
    spoiled("user: 1000", "uidRange: [9, 3]", &["1:11: uidRange: is inverted: write [3, 9]"]);
    spoiled("user: 1000", "uidRange: [0, 3]", &["1:11: uidRange: contains 0, which is root: begin at 1 or above"]);
    spoiled("user: 1000", "uidRange: [1, 4294967295]", &["1:11: uidRange: goes beyond 4294967294, the highest uid"]);
    spoiled(
        "user: 1000",
        "user: 1000\nuidRange: [1000, 1000]",
        &[
            "2:11: uidRange: [1000, 1000] is too small for the 1 tenants of mode Terminate without sandbox.uid: widen it",
        ],
    );
    assert_eq!(changed("user: 1000", "uidRange: [5, 5]").tenant_uid("acme"), Some(5));
}

#[test]
fn every_socket_fits_a_unix_address() {
    let config = changed("user: 1000", "runtimeDir: /run/x");
    assert_eq!(config.handoff_socket("acme"), Path::new("/run/x/terminators/acme/handoff.sock"));
    let longest = format!("/{}", "r".repeat(107 - "/terminators/acme/handoff.sock".len() - 1));
    let _ = changed("user: 1000", &format!("runtimeDir: {longest}"));
    let message = format!(
        "1:13: runtimeDir: is too long: a socket's path has at most 107 bytes, and \
         `{longest}r/terminators/acme/handoff.sock` has 108"
    );
    spoiled("user: 1000", &format!("runtimeDir: {longest}r"), &[message.as_str()]);
}

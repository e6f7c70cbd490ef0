//! A reload changes what is steered; nobody who is there notices.

use std::fs;
use std::net::SocketAddr;

use tests::hello::Hello;
use tests::raw_client::RawClient;

use super::site::{Greeting, Site, greet, setup};
use crate::reload::replace;
use crate::reload_of_the_process::successor;

#[test]
fn prefixes_come_and_go_and_connections_through_them_stay() {
    let Some(site) = Site::new("steering that changes") else { return };
    let router = site.start(setup(&site).line("workers: 2"));
    let text = fs::read_to_string(router.config_file()).unwrap();
    let [first, second]: [SocketAddr; 2] = ["10.99.1.1:443", "10.99.2.1:8443"].map(|address| address.parse().unwrap());
    let greetings = || site.at_client(|| [first, second].map(greet));
    assert_eq!(greetings(), [Greeting::Refused; 2]);
    let change = |workers: usize, steer: &str| {
        let former = router.router_pid().unwrap();
        let text = text.replace("workers: 2", &format!("workers: {workers}"));
        replace(&router, &text.replace("  - name: tls\n", &format!("  - name: tls\n{steer}")));
        successor(&router, former);
    };

    change(2, "    steer: [\"10.99.1.0/24:443\"]\n");
    assert_eq!(greetings(), [Greeting::Echoed, Greeting::Refused]);
    let steered = site.at_client(|| RawClient::connect(first)).unwrap();
    let hello = Hello::named("echo.test").records();
    steered.send(&hello).unwrap();
    assert_eq!(steered.read(hello.len()).unwrap(), hello);
    let goes_on = || {
        steered.send(b"still").unwrap();
        assert_eq!(steered.read(5).unwrap(), b"still");
    };

    // More workers, whose sockets are steered to, and then fewer.
    change(4, "    steer: [\"10.99.1.0/24:443\", \"10.99.2.0/24:8443\"]\n");
    goes_on();
    (0..50).for_each(|_| assert_eq!(greetings(), [Greeting::Echoed; 2]));
    change(1, "    steer: [\"10.99.2.0/24:8443\"]\n");
    goes_on();
    (0..50).for_each(|_| assert_eq!(greetings(), [Greeting::Refused, Greeting::Echoed]));
    change(1, "");
    goes_on();
    assert_eq!(greetings(), [Greeting::Refused; 2]);
    assert!(router.log().with(&["WARN"]).is_empty(), "{:?}", router.log().lines());
}

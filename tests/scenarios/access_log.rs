//! One JSON line for each connection at its end, whoever served it.

use std::collections::HashSet;

use serde_json::Value;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;

use crate::two_tenants::{PASSTHROUGH, TERMINATE, TwoTenants};

#[test]
fn each_connection_of_each_mode_has_one_line() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup().line("accessLog: { path: \"-\", format: Json }")).unwrap();
    let client = tenants.tls_client().with_alpn(&["http/1.1"]);
    client.get(router.address(), PASSTHROUGH, "/").unwrap();
    client.get(router.address(), TERMINATE, "/").unwrap();
    let stranger = RawClient::connect(router.address()).unwrap();
    stranger.send(&Hello::named("nobody.test").records()).unwrap();
    stranger.answer();

    let lines = eventually(PATIENCE, "three lines", || {
        let text = router.stdout().unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() >= 3).then_some(lines)
    })
    .unwrap();
    assert_eq!(lines.len(), 3);
    let ids: HashSet<String> = lines.iter().map(|line| line["id"].to_string()).collect();
    assert_eq!(ids.len(), 3);
    let of = |mode: &str| lines.iter().find(|line| line["mode"] == mode).unwrap();

    let passthrough = of("passthrough");
    assert_eq!((&passthrough["tenant"], &passthrough["outcome"]), (&"pinniped".into(), &"ok".into()));
    assert_eq!(passthrough["server_name"], PASSTHROUGH);
    assert_eq!(passthrough["backend"], tenants.passthrough_backend.address().to_string());
    let terminate = of("terminate");
    assert_eq!((&terminate["tenant"], &terminate["outcome"]), (&"acme".into(), &"ok".into()));
    assert_eq!(terminate["server_name"], TERMINATE);
    assert_eq!(terminate["tls_version"], "1.3");
    assert_eq!(terminate["alpn"], Value::from(vec!["http/1.1"]));
    let reject = of("reject");
    assert_eq!((reject.get("tenant"), &reject["outcome"]), (None, &"unknown_name".into()));
    assert_eq!(reject["server_name"], "nobody.test");
    for line in [passthrough, terminate] {
        assert!(line["client_to_backend"].as_u64().unwrap() > 0, "{line}");
        assert!(line["backend_to_client"].as_u64().unwrap() > 0, "{line}");
        assert!(line["total_ms"].as_f64().unwrap() >= line["hello_ms"].as_f64().unwrap(), "{line}");
        assert!(line["ja4"].as_str().unwrap().starts_with("t13d"), "{line}");
    }
}

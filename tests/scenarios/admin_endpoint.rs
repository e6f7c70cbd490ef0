//! The read-only HTTP endpoint.

use std::io::{Read, Write};

use tests::metrics::Metrics;
use tests::router_process::RouterProcess;
use tests::tls_client::tcp;

use crate::two_tenants::{PASSTHROUGH, TERMINATE, TwoTenants};

#[test]
fn health_readiness_and_metrics_answer() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    assert_eq!(router.admin_get("/healthz").unwrap().status, 200);
    assert_eq!(router.admin_get("/readyz").unwrap().status, 200);
    assert_eq!(router.admin_get("/nothing").unwrap().status, 404);
    for name in [PASSTHROUGH, TERMINATE] {
        assert_eq!(tenants.tls_client().get(router.address(), name, "/").unwrap().status, 200);
    }
    for (tenant, mode) in [("pinniped", "passthrough"), ("acme", "terminate")] {
        let labels = [("tenant", tenant), ("mode", mode), ("outcome", "ok")];
        router.wait_for_metric("sni_router_connections_total", &labels, 1.0).unwrap();
    }
    let metrics = Metrics::parse(&router.admin_get("/metrics").unwrap().body).unwrap();
    assert_eq!(metrics.sum("sni_router_client_hello_total", &[("outcome", "ok")]), 2.0);
    assert_eq!(metrics.sum("sni_router_client_hello_bytes_count", &[]), 2.0);
    assert_eq!(metrics.sum("sni_router_handoff_seconds_count", &[("tenant", "acme")]), 1.0);
    assert_eq!(metrics.sum("sni_terminator_handshake_seconds_count", &[("tenant", "acme")]), 1.0);
    assert!(metrics.sum("sni_terminator_certificate_not_after_seconds", &[("tenant", "acme")]) > 1.0e9);
    for tenant in ["pinniped", "acme"] {
        for direction in ["client_to_backend", "backend_to_client"] {
            let labels = [("tenant", tenant), ("direction", direction)];
            assert!(metrics.sum("sni_router_bytes_total", &labels) > 0.0, "{labels:?}");
        }
    }
}

#[test]
fn nothing_can_be_changed_through_it() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    let mut stream = tcp(router.admin()).unwrap();
    stream.write_all(b"POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

//! The PROXY protocol in both directions, against haproxy and nginx: who the client is arrives unchanged.

use std::net::{SocketAddr, TcpStream};

use tests::authority::{Authority, Identity, KeyKind};
use tests::client_tools::{Tool, require};
use tests::deliver::Delivery;
use tests::hello::Hello;
use tests::http;
use tests::peer::Peer;
use tests::ports::free_address;
use tests::raw_client::{End, RawClient};
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};
use tests::tls_client::{TlsClient, tcp};

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn haproxy_learns_the_client_of_a_terminated_connection() {
    let scene = Scene::new();
    let Some((_haproxy, backend)) = scene.haproxy_that_tells("") else { return };
    for settings in ["{ version: v1 }", "{ version: v2, tlvs: [authority, alpn, ssl, uniqueId, crc32c] }"] {
        let router = RouterProcess::start(Setup::new().tenant(scene.terminate(backend, settings))).unwrap();
        let (client, told) = scene.request(router.address(), TERMINATE);
        let name = if settings.contains("authority") { TERMINATE } else { "" };
        assert_eq!(told.first_words(), format!("{client} {} [{name}]", router.address()), "{settings}");
        assert_eq!(told.unique_id().len(), if settings.contains("uniqueId") { 16 } else { 0 });
    }
}

#[test]
fn haproxy_learns_the_client_of_a_connection_that_passes_through() {
    let scene = Scene::new();
    let files = scene.passthrough.write_files(scene.folder.path(), "pass").unwrap();
    let pem = [&files.certificate, &files.key].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    let pem = scene.folder.write("pass.pem", &pem).unwrap();
    let Some((_haproxy, backend)) = scene.haproxy_that_tells(&format!("ssl crt {}", pem.display())) else { return };
    for settings in ["{ version: v1 }", "{ version: v2, tlvs: [authority, crc32c] }"] {
        let router = RouterProcess::start(Setup::new().tenant(passthrough(backend, settings))).unwrap();
        let (client, told) = scene.request(router.address(), PASSTHROUGH);
        let name = if settings.contains("authority") { PASSTHROUGH } else { "" };
        assert_eq!(told.first_words(), format!("{client} {} [{name}]", router.address()), "{settings}");
    }
}

#[test]
fn nginx_learns_the_client_of_a_terminated_connection() {
    let scene = Scene::new();
    let Some(nginx) = require(Tool::Nginx, "nginx as receiver").unwrap() else { return };
    let backend = free_address().unwrap();
    let text = format!(
        "pid {folder}/nginx.pid; error_log stderr crit; events {{}} http {{ access_log off; \
         client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; \
         uwsgi_temp_path {folder}; scgi_temp_path {folder}; server {{ listen {backend} proxy_protocol; \
         return 200 \"$proxy_protocol_addr:$proxy_protocol_port \
         $proxy_protocol_server_addr:$proxy_protocol_server_port [] \"; }} }}",
        folder = scene.folder.path().display()
    );
    let _nginx = Peer::nginx(nginx, &scene.folder.write("nginx.conf", &text).unwrap(), backend).unwrap();
    for settings in ["{ version: v1 }", "{ version: v2, tlvs: [authority, ssl, crc32c] }"] {
        let router = RouterProcess::start(Setup::new().tenant(scene.terminate(backend, settings))).unwrap();
        let (client, told) = scene.request(router.address(), TERMINATE);
        assert_eq!(told.first_words(), format!("{client} {} []", router.address()), "{settings}");
    }
}

#[test]
fn what_haproxy_says_of_the_client_reaches_the_backend_in_both_modes() {
    let scene = Scene::new();
    let Some((_receiver, backend)) = scene.haproxy_that_tells("") else { return };
    for send in ["send-proxy", "send-proxy-v2"] {
        let setup = Setup::new().tenant(scene.terminate(backend, "{ version: v2 }"));
        let router = RouterProcess::start(setup.listener_line(TRUSTED)).unwrap();
        let sender = free_address().unwrap();
        let text = format!(
            "{DEFAULTS}listen sender\n  mode tcp\n  bind {sender}\n  server router {} {send}\n",
            router.address()
        );
        let Some(program) = require(Tool::HaProxy, "haproxy as sender").unwrap() else { return };
        let _sender = Peer::haproxy(program, &scene.folder.write("sender.cfg", &text).unwrap(), sender).unwrap();
        let (client, told) = scene.request(sender, TERMINATE);
        assert_eq!(told.first_words(), format!("{client} {sender} []"), "{send}");
    }
}

#[test]
fn a_header_from_anybody_else_is_no_tls() {
    let router = RouterProcess::start(Setup::new().tenant(passthrough(free_address().unwrap(), "{ version: v1 }")));
    let router = router.unwrap();
    let client = RawClient::connect(router.address()).unwrap();
    let bytes = [b"PROXY TCP4 192.0.2.1 198.51.100.1 1 443\r\n", &*Hello::named(PASSTHROUGH).records()].concat();
    client.send(&bytes).unwrap();
    assert_eq!(client.answer().end, End::Closed);
    router.wait_for_metric("sni_router_connections_total", &[("outcome", "not_tls")], 1.0).unwrap();
}

#[test]
fn a_trusted_sender_must_say_who_the_client_is() {
    let tenant = passthrough(free_address().unwrap(), "{ version: v1 }");
    let router = RouterProcess::start(Setup::new().tenant(tenant).listener_line(TRUSTED)).unwrap();
    let client = RawClient::connect(router.address()).unwrap();
    client.send(&Hello::named(PASSTHROUGH).records()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.alert(), answer.end), (None, End::Closed));
    router.wait_for_metric("sni_router_client_hello_total", &[("outcome", "proxy_header")], 1.0).unwrap();
}

#[test]
fn the_client_that_a_sender_names_is_the_one_that_is_denied() {
    let tenant = passthrough(free_address().unwrap(), "{ version: v1 }");
    let setup = Setup::new().tenant(tenant).listener_line(TRUSTED).listener_line("clients: { deny: [192.0.2.0/24] }");
    let router = RouterProcess::start(setup).unwrap();
    let client = RawClient::connect(router.address()).unwrap();
    client.send(b"PROXY TCP4 192.0.2.1 198.51.100.1 1 443\r\n").unwrap();
    assert_eq!(client.answer().alert(), Some(ACCESS_DENIED));
}

struct Scene {
    folder: Scratch,
    passthrough: Identity,
    terminate: Identity,
    client: TlsClient,
}

impl Scene {
    fn new() -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        Self {
            folder: Scratch::new().unwrap(),
            passthrough: authority.server(&[PASSTHROUGH], KeyKind::Ecdsa).unwrap(),
            terminate: authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap(),
            client: TlsClient::trusting(&authority).unwrap(),
        }
    }

    /// A haproxy that answers each request with what it was told of the connection.
    fn haproxy_that_tells(&self, bind: &str) -> Option<(Peer, SocketAddr)> {
        let program = require(Tool::HaProxy, "haproxy as receiver").unwrap()?;
        let address = free_address().unwrap();
        let text = format!(
            "{DEFAULTS}frontend receiver\n  mode http\n  bind {address} accept-proxy {bind}\n  http-request return \
             status 200 content-type text/plain lf-string \"%[src]:%[src_port] %[dst]:%[dst_port] \
             [%[fc_pp_authority]] %[fc_pp_unique_id]\"\n"
        );
        let config = self.folder.write("receiver.cfg", &text).unwrap();
        Some((Peer::haproxy(program, &config, address).unwrap(), address))
    }

    fn terminate(&self, backend: SocketAddr, settings: &str) -> Tenant {
        Tenant::terminate("acme", &[TERMINATE], backend, &self.terminate)
            .tls_line("alpn: [http/1.1]")
            .line(&format!("proxyProtocol: {settings}"))
    }

    /// The client's own address, and what the backend says of it.
    fn request(&self, address: SocketAddr, name: &str) -> (SocketAddr, Told) {
        let socket: TcpStream = tcp(address).unwrap();
        let client = socket.local_addr().unwrap();
        let mut stream = self.client.handshake(socket, name, Delivery::Whole).unwrap();
        (client, Told(http::get(&mut stream, name, "/").unwrap().body))
    }
}

/// `client local [name] id`.
struct Told(String);

impl Told {
    fn first_words(&self) -> &str {
        self.0.rsplit_once(' ').unwrap().0
    }

    fn unique_id(&self) -> &str {
        self.0.rsplit_once(' ').unwrap().1
    }
}

fn passthrough(backend: SocketAddr, settings: &str) -> Tenant {
    Tenant::passthrough("pinniped", &[PASSTHROUGH], backend).line(&format!("proxyProtocol: {settings}"))
}

const TRUSTED: &str = "proxyProtocol: { from: [127.0.0.0/8] }";
const DEFAULTS: &str = "\
global
  maxconn 100
defaults
  timeout connect 5s
  timeout client 30s
  timeout server 30s
";
/// RFC 8446 section 6.2.
const ACCESS_DENIED: u8 = 49;

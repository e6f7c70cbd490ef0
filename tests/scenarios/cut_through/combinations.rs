//! What else a passthrough connection can be, carried by the kernel: mutual TLS of the clients that people use, a PROXY
//! header before the hello on either side.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;

use tests::authority::{Authority, KeyKind};
use tests::client_tools::require_root;
use tests::fakes::{IdentityBackend, Server};
use tests::hello::Hello;
use tests::patience::PATIENCE;
use tests::real_client::{RealClient, Request};
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};

use super::site::{NAME, PATHS, network};

#[test]
fn mutual_tls_of_curl() {
    mutual_tls(RealClient::Curl);
}

#[test]
fn mutual_tls_of_openssl() {
    mutual_tls(RealClient::OpenSsl);
}

#[test]
fn mutual_tls_of_gnutls() {
    mutual_tls(RealClient::GnuTls);
}

#[test]
fn mutual_tls_of_go() {
    mutual_tls(RealClient::Go);
}

fn mutual_tls(client: RealClient) {
    if !require_root("cut-through").unwrap() {
        return;
    }
    let network = network();
    let authority = Authority::new("scenario CA").unwrap();
    let server = authority.server(&[NAME], KeyKind::Ecdsa).unwrap();
    let identity = authority.client("somebody").unwrap();
    let address = network.backend.free_address().unwrap();
    let backend = network.backend.run(|| IdentityBackend::start_on(address, "pinniped", &server, &authority)).unwrap();
    let setup = Setup::new()
        .listener_address(network.router.address().into())
        .line("dataPath: CutThrough")
        .tenant(Tenant::passthrough("pinniped", &[NAME], backend.address()));
    let router = network.router.run(|| RouterProcess::start(setup)).unwrap();
    let scratch = Scratch::new().unwrap();
    let request = Request {
        router: router.address(),
        name: NAME.to_owned(),
        authority: scratch.write("ca.crt", authority.pem()).unwrap(),
        identity: Some(identity.write_files(scratch.path(), "client").unwrap()),
    };
    let Some(answer) = network.client.run(|| client.get(&request)).unwrap() else { return };
    assert!(answer.contains(&identity.sha256()), "{answer}");
    network.router.run(|| router.wait_for_metric(PATHS, &[("path", "cut_through")], 1.0)).unwrap();
}

#[test]
fn a_header_of_version_1_for_the_backend() {
    let expect = |client: SocketAddr, router: SocketAddr| {
        format!("PROXY TCP4 {} {} {} {}\r\n", client.ip(), router.ip(), client.port(), router.port()).into_bytes()
    };
    headers("proxyProtocol: { version: v1 }", None, |_| Vec::new(), expect);
}

#[test]
fn a_header_of_version_2_for_the_backend() {
    headers("proxyProtocol: { version: v2 }", None, |_| Vec::new(), version_2);
}

#[test]
fn a_header_of_a_trusted_sender() {
    let line = "proxyProtocol: { from: [\"10.0.1.0/24\"] }";
    let told = "192.0.2.7:4711".parse().unwrap();
    headers("", Some(line), |router| version_2(told, router), |_, _| Vec::new());
}

#[test]
fn a_header_of_a_trusted_sender_and_one_for_the_backend() {
    let line = "proxyProtocol: { from: [\"10.0.1.0/24\"] }";
    let told = "192.0.2.7:4711".parse().unwrap();
    let tenant = "proxyProtocol: { version: v2 }";
    headers(tenant, Some(line), |router| version_2(told, router), |_, router| version_2(told, router));
}

/// The client sends what `before_hello` says of the router's address, then a hello, and after a greeting 100,000 bytes;
/// the backend has to get what `expected` says of both addresses and then the same, and its answer has to arrive.
fn headers(
    tenant_line: &str,
    listener_line: Option<&str>,
    before_hello: impl Fn(SocketAddr) -> Vec<u8> + Sync,
    expected: impl Fn(SocketAddr, SocketAddr) -> Vec<u8> + Sync,
) {
    if !require_root("cut-through").unwrap() {
        return;
    }
    let network = network();
    let (sender, received) = channel();
    let hello = Hello::named(NAME).records();
    let until = hello.clone();
    let record = move |mut stream: TcpStream| {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        while !bytes.ends_with(&until) {
            let read = stream.read(&mut chunk)?;
            bytes.extend(&chunk[..read]);
        }
        stream.write_all(&GREETING)?;
        stream.read_to_end(&mut bytes)?;
        stream.write_all(&answer())?;
        let _ = sender.send(bytes);
        Ok(())
    };
    let address = network.backend.free_address().unwrap();
    let backend = network.backend.run(|| Server::start_on(address, record)).unwrap();
    let mut tenant = Tenant::passthrough("pinniped", &[NAME], backend.address());
    if !tenant_line.is_empty() {
        tenant = tenant.line(tenant_line);
    }
    let mut setup = Setup::new().listener_address(network.router.address().into()).line("dataPath: CutThrough");
    if let Some(line) = listener_line {
        setup = setup.listener_line(line);
    }
    let router = network.router.run(|| RouterProcess::start(setup.tenant(tenant))).unwrap();
    let rest: Vec<u8> = (0..=250).cycle().take(100_000).collect();
    let to = router.address();
    for _ in 0..CONNECTIONS {
        let client = network.client.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&before_hello(to))?;
            stream.write_all(&hello)?;
            stream.read_exact(&mut GREETING.clone())?;
            stream.write_all(&rest)?;
            stream.shutdown(Shutdown::Write)?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            assert!(bytes == answer(), "{} bytes of an answer", bytes.len());
            Ok(stream.local_addr()?)
        });
        let bytes = received.recv_timeout(PATIENCE).unwrap();
        assert!(bytes == [&expected(client.unwrap(), to)[..], &hello, &rest].concat(), "{} bytes", bytes.len());
    }
    let carried = [("path", "cut_through")];
    network.router.run(|| router.wait_for_metric(PATHS, &carried, f64::from(CONNECTIONS))).unwrap();
}

fn answer() -> Vec<u8> {
    (0..=240).cycle().take(50_000).collect()
}

/// The specification's section 2.2, TCP over IPv4.
fn version_2(client: SocketAddr, router: SocketAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    for address in [client, router] {
        let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
        header.extend(address.ip().octets());
    }
    header.extend(client.port().to_be_bytes());
    header.extend(router.port().to_be_bytes());
    header
}

const CONNECTIONS: u32 = 10;
/// What the backend says to a whole hello.
const GREETING: [u8; 1] = [b'g'];

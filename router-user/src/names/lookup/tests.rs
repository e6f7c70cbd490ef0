//! Questions to a DNS server on the loopback interface.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::thread;

use hickory_resolver::proto::op::{Message, MessageType};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_resolver::proto::rr::{RData, Record};

use super::*;

type Zone = HashMap<(&'static str, RecordType), Reply>;

#[derive(Clone, Debug)]
enum Reply {
    Records(Vec<(&'static str, RData, u32)>),
    /// By UDP nothing but the word that there is more; the records by TCP.
    Truncated(Vec<(&'static str, RData, u32)>),
    NoSuchName(u32),
    ServFail,
}

struct Server {
    address: SocketAddr,
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(zone: Zone) -> Self {
        // The port may be somebody else's for TCP.
        let both = || {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = udp.local_addr().unwrap();
            Some((std::net::TcpListener::bind(address).ok()?, udp, address))
        };
        let (tcp, udp, address) = std::iter::repeat_with(both).flatten().next().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (zone, log) = (Arc::new(zone), Arc::clone(&asked));
        let tcp_zone = Arc::clone(&zone);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                log.lock().unwrap().push(question.queries[0].name().to_string());
                udp.send_to(&reply(&zone, &question, false), peer).unwrap();
            }
        });
        thread::spawn(move || {
            use std::io::{Read, Write};
            while let Ok((mut stream, _)) = tcp.accept() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut text = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut text).unwrap();
                let reply = reply(&tcp_zone, &Message::from_vec(&text).unwrap(), true);
                let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length[..], &reply].concat()).unwrap();
            }
        });
        Self { address, folder: tempfile::tempdir().unwrap(), asked }
    }

    fn system(&self, resolv_conf: &str) -> System {
        let folder = self.folder.path();
        let files = Files { resolv_conf: folder.join("resolv.conf"), hosts: folder.join("hosts") };
        std::fs::write(&files.resolv_conf, resolv_conf).unwrap();
        std::fs::write(&files.hosts, "127.0.0.9 in-hosts\n").unwrap();
        let settings = config::Resolver {
            servers: vec![self.address],
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
        };
        System::new(settings, files)
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.dedup();
        asked
    }
}

fn reply(zone: &Zone, question: &Message, by_tcp: bool) -> Vec<u8> {
    let query = question.queries[0].clone();
    let key = query.name().to_string();
    let found = zone.iter().find(|((name, family), _)| *name == key && *family == query.query_type());
    let exists = zone.keys().any(|(name, _)| *name == key);
    let mut reply = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
    reply.metadata.recursion_available = true;
    reply.add_query(query);
    let root = Name::root();
    let soa = |minimum| {
        Record::from_rdata(root.clone(), 60, RData::SOA(SOA::new(root.clone(), root.clone(), 1, 1, 1, 1, minimum)))
    };
    match found.map(|(_, reply)| reply.clone()) {
        Some(Reply::Truncated(_)) if !by_tcp => reply.metadata.truncation = true,
        Some(Reply::Records(records) | Reply::Truncated(records)) => {
            reply.add_answers(
                records
                    .into_iter()
                    .map(|(name, data, ttl)| Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, data)),
            );
        }
        Some(Reply::NoSuchName(ttl)) => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.add_authority(soa(ttl));
        }
        Some(Reply::ServFail) => reply.metadata.response_code = ResponseCode::ServFail,
        None => {
            reply.metadata.response_code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
            reply.add_authority(soa(7));
        }
    }
    reply.to_vec().unwrap()
}

fn a(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(10, 0, 0, last)))
}

fn aaaa() -> RData {
    RData::AAAA(AAAA("2001:db8::1".parse().unwrap()))
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn ask_for(server: &Server, resolv_conf: &str, name: &str) -> Answer {
    look_up(&server.system(resolv_conf), &BackendName::parse(name).unwrap(), false).await
}

#[tokio::test]
async fn aliases_are_followed_and_the_shortest_ttl_of_the_chain_counts() {
    let alias = RData::CNAME(CNAME(Name::from_ascii("target.example.").unwrap()));
    let records = vec![("svc.example.", alias, 4), ("target.example.", a(1), 60), ("target.example.", a(2), 60)];
    let server = Server::start(Zone::from([(("svc.example.", RecordType::A), Reply::Records(records))]));
    let answer = ask_for(&server, "", "svc.example").await;
    assert_eq!(answer.v4, Family::Addresses(vec![v4(1), v4(2)], seconds(4)));
    assert_eq!(answer.v6, Family::Nothing(Some(seconds(7))));
}

#[tokio::test]
async fn what_is_too_long_for_udp_comes_by_tcp() {
    let records: Vec<_> = (0..200).map(|last| ("svc.example.", a(last), 30)).collect();
    let server = Server::start(Zone::from([
        (("svc.example.", RecordType::A), Reply::Truncated(records)),
        (("svc.example.", RecordType::AAAA), Reply::Records(vec![("svc.example.", aaaa(), 20)])),
    ]));
    let answer = ask_for(&server, "", "svc.example").await;
    assert!(matches!(&answer.v4, Family::Addresses(all, ttl) if all.len() == 200 && *ttl == seconds(30)), "{answer:?}");
    assert_eq!(answer.v6, Family::Addresses(vec!["2001:db8::1".parse().unwrap()], seconds(20)));
}

#[tokio::test]
async fn the_search_list_is_gone_through_until_somebody_knows_the_name() {
    let found = Reply::Records(vec![("db.ns.svc.cluster.local.", a(3), 5)]);
    let server = Server::start(Zone::from([(("db.ns.svc.cluster.local.", RecordType::A), found)]));
    let resolv_conf = "search ns.svc.cluster.local cluster.local\noptions ndots:5\n";
    let answer = ask_for(&server, resolv_conf, "db.ns.svc").await;
    assert_eq!(answer.v4, Family::Addresses(vec![v4(3)], seconds(5)));
    assert_eq!(server.asked(), ["db.ns.svc.ns.svc.cluster.local.", "db.ns.svc.cluster.local."]);
    let absolute = ask_for(&server, resolv_conf, "db.ns.svc.").await;
    assert_eq!(absolute.v4, Family::Nothing(Some(seconds(7))));
}

#[tokio::test]
async fn a_name_that_does_not_exist_says_for_how_long() {
    let zone = [RecordType::A, RecordType::AAAA].map(|family| (("gone.example.", family), Reply::NoSuchName(3)));
    let answer = ask_for(&Server::start(Zone::from(zone)), "", "gone.example").await;
    assert_eq!(answer, Answer { v4: Family::Nothing(Some(seconds(3))), v6: Family::Nothing(Some(seconds(3))) });
}

#[tokio::test]
async fn a_failure_is_no_answer_and_is_passed_over_only_by_who_has_nothing_to_lose() {
    let family = [RecordType::A, RecordType::AAAA];
    let mut zone = Zone::from(family.map(|family| (("svc.broken.", family), Reply::ServFail)));
    let found = Reply::Records(vec![("svc.", a(9), 5)]);
    zone.insert(("svc.", RecordType::A), found);
    let server = Server::start(zone);
    let system = server.system("search broken\n");
    let name = BackendName::parse("svc").unwrap();
    let answer = look_up(&system, &name, false).await;
    assert_eq!(answer.v4, Family::Addresses(vec![v4(9)], seconds(5)));
    let answer = look_up(&system, &name, true).await;
    assert!(matches!((&answer.v4, &answer.v6), (Family::Failed(_), Family::Failed(_))), "{answer:?}");
}

#[tokio::test]
async fn hosts_are_not_asked_for() {
    let server = Server::start(Zone::new());
    let answer = ask_for(&server, "search example\n", "in-hosts").await;
    assert_eq!(answer.v4, Family::Addresses(vec![[127, 0, 0, 9].into()], HOSTS_TTL));
    assert!(server.asked().is_empty());
}

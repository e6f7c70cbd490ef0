//! Whom to ask, and under which names: /etc/hosts, /etc/resolv.conf and what the configuration says. A change of either
//! file is noticed at the next question.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ::connection::files::Fingerprint;
use config::{BackendName, Resolver as Settings};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tracing::warn;

/// Everything that a question needs, as it is at one moment.
pub(super) struct Source {
    pub(super) dns: TokioResolver,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
}

/// The source of the moment.
pub(super) struct System {
    settings: Settings,
    files: Files,
    current: Mutex<Option<(Fingerprint, Arc<Source>)>>,
}

/// Where the host says how names are resolved.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) resolv_conf: PathBuf,
    pub(super) hosts: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() }
    }
}

impl System {
    pub(super) fn new(settings: Settings, files: Files) -> Self {
        Self { settings, files, current: Mutex::new(None) }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What holds now. A file that has become unreadable or wrong leaves what was read before.
    pub(super) fn source(&self) -> Result<Arc<Source>, String> {
        let now = Fingerprint::of([&self.files.resolv_conf, &self.files.hosts].into_iter());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, source)) = &*current
            && *seen == now
        {
            return Ok(Arc::clone(source));
        }
        let read = Source::read(&self.settings, &self.files);
        let source = match (read, &*current) {
            (Ok(source), _) => Arc::new(source),
            (Err(error), Some((_, before))) => {
                warn!(error, "names are resolved as before");
                Arc::clone(before)
            }
            (Err(error), None) => return Err(error),
        };
        *current = Some((now, Arc::clone(&source)));
        Ok(source)
    }
}

impl Source {
    fn read(settings: &Settings, files: &Files) -> Result<Self, String> {
        let (config, mut options) = match std::fs::read(&files.resolv_conf) {
            Ok(text) => understand(&text).map_err(|error| format!("{}: {error}", files.resolv_conf.display()))?,
            // As resolv.conf(5) says of a file that is not there.
            Err(_) => (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default()),
        };
        // The host's own domain stands in for a search list (resolv.conf(5)).
        let search = match config.search() {
            [] => config.domain().cloned().into_iter().collect(),
            search => search.to_vec(),
        };
        let servers = match settings.servers.as_slice() {
            [] if config.name_servers().is_empty() => vec![server((Ipv4Addr::LOCALHOST, DNS_PORT).into())],
            [] => config.name_servers().to_vec(),
            own => own.iter().copied().map(server).collect(),
        };
        let ndots = options.ndots;
        // What is cached here would only hide how long it still holds.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let dns = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| error.to_string())?;
        let mut hosts = Hosts::default();
        if let Ok(text) = std::fs::read(&files.hosts)
            && let Err(error) = hosts.read_hosts_conf(text.as_slice())
        {
            warn!(%error, file = %files.hosts.display(), "the rest of the file is passed over");
        }
        Ok(Self { dns, hosts, search, ndots })
    }

    /// What /etc/hosts says of both families; DNS is not asked then.
    pub(super) fn in_hosts(&self, name: &BackendName) -> Option<[Vec<IpAddr>; 2]> {
        let name = absolute(name.host().as_str())?;
        let addresses = [RecordType::A, RecordType::AAAA].map(|family| {
            let lookup = self.hosts.lookup_static_host(&Query::query(name.clone(), family));
            let records = lookup.iter().flat_map(|lookup| lookup.answers());
            records.filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()
        });
        addresses.iter().any(|family| !family.is_empty()).then_some(addresses)
    }

    /// The names to ask for, in this order (resolv.conf(5), `search` and `ndots`).
    pub(super) fn candidates(&self, name: &BackendName) -> Vec<Name> {
        let text = name.host().as_str();
        let Some(own) = absolute(text) else { return Vec::new() };
        if name.is_absolute() {
            return vec![own];
        }
        let mut candidates: Vec<Name> = Vec::new();
        let searched = self.search.iter().filter_map(|domain| {
            let domain = domain.to_ascii();
            let domain = domain.trim_end_matches('.');
            absolute(&if domain.is_empty() { text.to_owned() } else { format!("{text}.{domain}") })
        });
        let is_first = text.matches('.').count() >= self.ndots;
        let own = std::iter::once(own);
        let ordered: Vec<Name> = if is_first { own.chain(searched).collect() } else { searched.chain(own).collect() };
        for name in ordered {
            if !candidates.contains(&name) {
                candidates.push(name);
            }
        }
        candidates
    }
}

/// With the options that say how long a server is waited for.
fn understand(resolv_conf: &[u8]) -> Result<(ResolverConfig, ResolverOpts), String> {
    match parse_resolv_conf(resolv_conf) {
        Ok(understood) => Ok(understood),
        // The reader refuses a file without a server, which leaves the local host (resolv.conf(5)) or our own.
        Err(_) => {
            let text = [resolv_conf, b"\nnameserver 127.0.0.1\n"].concat();
            parse_resolv_conf(text).map_err(|error| error.to_string())
        }
    }
}

/// By UDP, and by TCP for what does not fit.
fn server(address: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

fn absolute(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{text}.")).ok()
}

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(resolv_conf: &str, hosts: &str) -> Arc<Source> {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { resolv_conf: folder.path().join("resolv.conf"), hosts: folder.path().join("hosts") };
        std::fs::write(&files.resolv_conf, resolv_conf).unwrap();
        std::fs::write(&files.hosts, hosts).unwrap();
        System::new(settings(), files).source().ok().unwrap()
    }

    fn settings() -> Settings {
        config::Config::from_yaml(
            "listeners: [{ name: tls, address: \"127.0.0.1:1\" }]\ntenants: [{ name: a, hostnames: [a.example], \
             mode: Passthrough, backends: [{ address: \"svc:1\" }] }]\n",
        )
        .unwrap()
        .resolver
    }

    fn candidates(source: &Source, name: &str) -> Vec<String> {
        let name = BackendName::parse(name).unwrap();
        source.candidates(&name).iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn search_and_ndots_of_resolv_conf_hold() {
        let kubernetes = source(
            "nameserver 10.96.0.10\nsearch ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
            "",
        );
        assert_eq!(
            candidates(&kubernetes, "db.ns.svc"),
            [
                "db.ns.svc.ns.svc.cluster.local.",
                "db.ns.svc.svc.cluster.local.",
                "db.ns.svc.cluster.local.",
                "db.ns.svc."
            ]
        );
        assert_eq!(candidates(&kubernetes, "db.ns.svc."), ["db.ns.svc."]);
        let plain = source("search example\n", "");
        assert_eq!(candidates(&plain, "db.internal"), ["db.internal.", "db.internal.example."]);
        assert_eq!(candidates(&plain, "db"), ["db.example.", "db."]);
    }

    #[tokio::test]
    async fn hosts_come_first_with_both_families() {
        let source = source("", "127.0.0.9 one Two.Example # not three\n2001:db8::9 one\n10.0.0.1 one\n");
        let found = |name: &str| source.in_hosts(&BackendName::parse(name).unwrap());
        let [v4, v6] = found("one").unwrap();
        assert_eq!((v4.len(), v6.len()), (2, 1));
        assert_eq!(found("two.example").unwrap()[0], [IpAddr::from([127, 0, 0, 9])]);
        assert!(found("three").is_none());
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_no_file_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { resolv_conf: folder.path().join("resolv.conf"), hosts: folder.path().join("hosts") };
        let system = System::new(settings(), files.clone());
        let before = system.source().ok().unwrap();
        assert!(Arc::ptr_eq(&before, &system.source().ok().unwrap()));
        std::fs::write(&files.hosts, "127.0.0.9 one\n").unwrap();
        let after = system.source().ok().unwrap();
        assert!(after.in_hosts(&BackendName::parse("one").unwrap()).is_some());
    }
}

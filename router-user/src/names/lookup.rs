//! One question about one name: /etc/hosts, then DNS, under each name that the search list makes of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use config::{BackendName, Config};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Answer, Family};
use super::names;
use super::system::{Files, Source, System};

/// What a name stands for, asked once.
#[derive(Debug)]
pub(crate) struct Looked {
    /// As it is configured.
    pub(crate) name: BackendName,
    /// All its addresses, or why there are none.
    pub(crate) addresses: Result<Vec<IpAddr>, String>,
}

/// Asks for all names of a configuration, each once, for somebody who wants to see it.
pub(crate) async fn look_up_all(config: &Config) -> Vec<Looked> {
    let mut wanted: Vec<&BackendName> = config.tenants.iter().flat_map(|tenant| names(tenant)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let system = Arc::new(System::new(config.resolver.clone(), Files::default()));
    let mut questions = JoinSet::new();
    for name in wanted {
        let (system, name) = (Arc::clone(&system), name.clone());
        questions.spawn(async move {
            let addresses = addresses(look_up(&system, &name, false).await);
            Looked { name, addresses }
        });
    }
    let mut all = questions.join_all().await;
    all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    all
}

fn addresses(Answer { v4, v6 }: Answer) -> Result<Vec<IpAddr>, String> {
    let mut found = Vec::new();
    let mut problem = None;
    for family in [v4, v6] {
        match family {
            Family::Addresses(addresses, _) => found.extend(addresses),
            Family::Nothing(_) => {}
            Family::Failed(reason) => problem = Some(reason),
        }
    }
    match (found.is_empty(), problem) {
        (false, _) => Ok(found),
        (true, Some(reason)) => Err(reason),
        (true, None) => Err("no such name, or no address".to_owned()),
    }
}

/// Asks. `has_addresses`: the name has been found before, so that a failure under one name of the search list is not
/// passed over for the sake of the next one, which may be somebody else.
pub(super) async fn look_up(system: &System, name: &BackendName, has_addresses: bool) -> Answer {
    let source = match system.source() {
        Ok(source) => source,
        Err(reason) => return failed(reason),
    };
    if let Some(families) = source.in_hosts(name) {
        let [v4, v6] = families.map(|addresses| match addresses.is_empty() {
            true => Family::Nothing(None),
            false => Family::Addresses(addresses, HOSTS_TTL),
        });
        return Answer { v4, v6 };
    }
    let search = search(&source, name, has_addresses);
    timeout(PATIENCE, search).await.unwrap_or_else(|_| failed("no answer in time".to_owned()))
}

async fn search(source: &Source, name: &BackendName, has_addresses: bool) -> Answer {
    let mut answer = failed("not a name that can be asked for".to_owned());
    let mut failure = None;
    for candidate in source.candidates(name) {
        let (v4, v6) = tokio::join!(ask(source, &candidate, RecordType::A), ask(source, &candidate, RecordType::AAAA));
        answer = Answer { v4, v6 };
        let families = [&answer.v4, &answer.v6];
        if families.iter().any(|family| matches!(family, Family::Addresses(..))) {
            return answer;
        }
        if families.iter().any(|family| matches!(family, Family::Failed(_))) {
            if has_addresses {
                return answer;
            }
            failure = Some(answer.clone());
        }
    }
    failure.unwrap_or(answer)
}

async fn ask(source: &Source, name: &Name, family: RecordType) -> Family {
    match source.dns.lookup(name.clone(), family).await {
        Ok(lookup) => {
            let records = lookup.answers();
            let addresses: Vec<IpAddr> = records.iter().filter_map(|record| record.data.ip_addr()).collect();
            let ttl = records.iter().map(|record| Duration::from_secs(record.ttl.into())).min();
            match (addresses.is_empty(), ttl) {
                (false, Some(ttl)) => Family::Addresses(addresses, ttl),
                _ => Family::Nothing(ttl),
            }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            Family::Nothing(none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into())))
        }
        Err(error) => Family::Failed(format!("{name} {family}: {error}")),
    }
}

fn failed(reason: String) -> Answer {
    Answer { v4: Family::Failed(reason.clone()), v6: Family::Failed(reason) }
}

/// A file has no TTL; it is looked at so often.
const HOSTS_TTL: Duration = Duration::from_secs(5);

/// For a whole search list; a server gets what resolv.conf says (`timeout`, `attempts`).
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;

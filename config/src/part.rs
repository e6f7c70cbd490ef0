//! The part of a configuration that one terminator needs. Who has read the whole file says which tenants that is, so that
//! starting one of 100,000 does not take reading the other ones.

use std::path::Path;

use hashbrown::HashMap;

use crate::error::LoadError;
use crate::hostname::HostnamePattern;
use crate::model::{Config, Fallback, Identity, Mode};
use crate::reread::{Items, mentions};
use crate::yaml::MAX_TEXT_BYTES;

/// The parts of a configuration.
#[derive(Debug)]
pub struct Parts<'c> {
    identities: HashMap<&'c str, Identity>,
    /// Tenants that listeners name.
    fallbacks: Vec<&'c str>,
    /// Tenants with an exact hostname below this suffix.
    below: HashMap<&'c str, Vec<&'c str>>,
    /// The wildcards' suffixes of each tenant that has some.
    wildcards: HashMap<&'c str, Vec<&'c str>>,
}

/// What the terminator of one tenant has to know of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Who it becomes when it is started as root; the whole of the tenants decides that.
    pub identity: Identity,
    /// Other tenants without which the part says something else than the whole.
    pub beside: Vec<String>,
}

impl<'c> Parts<'c> {
    /// Of this configuration.
    pub fn of(config: &'c Config) -> Self {
        let fallbacks =
            config.listeners.iter().flat_map(|listener| [listener.on_no_server_name, listener.on_unmatched]);
        let fallbacks = fallbacks.filter_map(|fallback| match fallback {
            Fallback::Tenant(index) => config.tenants.get(index).map(|tenant| tenant.name.as_str()),
            Fallback::Reject => None,
        });
        let mut parts = Self {
            identities: HashMap::new(),
            fallbacks: fallbacks.collect(),
            below: HashMap::new(),
            wildcards: HashMap::new(),
        };
        for tenant in &config.tenants {
            let name = tenant.name.as_str();
            if let Mode::Terminate(terminate) = &tenant.mode {
                parts.identities.insert(name, terminate.identity);
            }
            for pattern in &tenant.hostnames {
                match pattern {
                    HostnamePattern::Exact(exact) => {
                        if let Some((_, suffix)) = exact.as_str().split_once('.') {
                            parts.below.entry(suffix).or_default().push(name);
                        }
                    }
                    HostnamePattern::Wildcard(suffix) => {
                        parts.wildcards.entry(name).or_default().push(suffix.as_str());
                    }
                }
            }
        }
        parts
    }

    /// The part of one tenant of mode Terminate; `None` where it is not worth its while.
    pub fn part(&self, tenant: &str) -> Option<Part> {
        let identity = *self.identities.get(tenant)?;
        let suffixes = self.wildcards.get(tenant).into_iter().flatten();
        let claimants = suffixes.filter_map(|suffix| self.below.get(suffix)).flatten();
        let others = self.fallbacks.iter().chain(claimants).filter(|name| **name != tenant);
        let mut beside: Vec<String> = others.map(|name| (*name).to_owned()).collect();
        beside.sort_unstable();
        beside.dedup();
        (beside.len() <= MOST_BESIDE).then_some(Part { identity, beside })
    }
}

impl Config {
    /// Reads these tenants of the file at `path`, and perhaps more of them; all of them where it cannot tell them apart.
    /// The uids of a part are not those of the whole.
    pub fn load_part(path: &Path, names: &[&str]) -> Result<Self, LoadError> {
        let text = Self::read_file(path)?;
        Self::part_of(&text, names).map_or_else(|| Self::of_file(path, &text), Ok)
    }

    fn part_of(text: &str, names: &[&str]) -> Option<Self> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let items = Items::of(text)?;
        // Whoever is mentioned elsewhere comes along, which does no harm.
        let wanted: Vec<&str> =
            items.list.iter().copied().filter(|item| names.iter().any(|name| mentions(item, name))).collect();
        let read = Self::from_yaml(&items.text_of(&wanted)).ok()?;
        let is_there = |name: &&str| read.tenants.iter().any(|tenant| tenant.name == **name);
        names.iter().all(is_there).then_some(read)
    }
}

/// Names are arguments of a process, and reading many tenants is no faster than reading all.
const MOST_BESIDE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
listeners:
  - { name: tls, address: "127.0.0.1:8443", onUnmatched: rest }
tenants:
  - name: wide
    hostnames: ["*.wide.example"]
    mode: Terminate
    tls: { certificates: [{ secretDir: /wide }] }
    backends: [{ address: "127.0.0.1:1" }]
  - name: wide-2
    hostnames: ["wide-2.example"]
    mode: Terminate
    tls: { certificates: [{ secretDir: /wide-2 }] }
    backends: [{ address: "127.0.0.1:1" }]
  - { name: inside, hostnames: ["api.wide.example"], mode: Passthrough, backends: [{ address: "127.0.0.1:2" }] }
  - { name: rest, hostnames: ["other.example"], mode: Passthrough, backends: [{ address: "127.0.0.1:3" }] }
"#;

    fn names(config: &Config) -> Vec<&str> {
        config.tenants.iter().map(|tenant| tenant.name.as_str()).collect()
    }

    #[test]
    fn who_claims_names_below_a_wildcard_and_who_gets_the_rest_belong_to_the_part() {
        let whole = Config::from_yaml(WHOLE).unwrap();
        let parts = Parts::of(&whole);
        assert_eq!(parts.part("wide").unwrap().beside, ["inside", "rest"]);
        let plain = parts.part("wide-2").unwrap();
        assert_eq!(plain.beside, ["rest"]);
        assert_eq!(Some(plain.identity.uid), whole.tenant_uid("wide-2"));
        assert_eq!((parts.part("inside"), parts.part("nobody")), (None, None));

        let part = Config::part_of(WHOLE, &["wide-2", "rest"]).unwrap();
        assert_eq!(names(&part), ["wide-2", "rest"], "wide is another word");
        let same = |name: &str| whole.tenants.iter().find(|tenant| tenant.name == name).unwrap().hostnames.clone();
        assert_eq!(part.tenants[0].hostnames, same("wide-2"));
        assert_eq!(part.listeners[0].on_unmatched, Fallback::Tenant(1));
    }

    #[test]
    fn what_cannot_be_told_apart_is_read_as_a_whole() {
        for (text, names) in [
            (WHOLE.to_owned(), ["wide", "nobody"]),
            (WHOLE.replace("name: rest", "name: \"r\\x65st\""), ["wide", "rest"]),
            (WHOLE.replace("tenants:\n", "tenants: &all\n"), ["wide", "rest"]),
        ] {
            assert_eq!(Config::part_of(&text, &names), None, "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, WHOLE.replace("name: rest", "name: \"r\\x65st\"")).unwrap();
        assert_eq!(Config::load_part(&file, &["wide", "rest"]).unwrap().tenants.len(), 4);
        std::fs::write(&file, WHOLE).unwrap();
        assert_eq!(Config::load_part(&file, &["wide", "inside", "rest"]).unwrap().tenants.len(), 3);
    }

    #[test]
    fn a_tenant_whose_names_too_many_others_share_has_no_part() {
        let mut text = WHOLE.to_owned();
        for number in 0..=MOST_BESIDE {
            text += &format!(
                "  - {{ name: t{number}, hostnames: [\"t{number}.wide.example\"], mode: Passthrough, backends: [{{ address: \"127.0.0.1:4\" }}] }}\n"
            );
        }
        let whole = Config::from_yaml(&text).unwrap();
        let parts = Parts::of(&whole);
        assert!(parts.part("wide").is_none() && parts.part("wide-2").is_some());
    }
}

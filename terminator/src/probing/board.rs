//! What is known of the backends' certificates, what is said about it in the log, and what is told of it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use connection::handoff::{CertificateStatus, ConnectionCount, ProbedBackend, ProberStatus, SandboxPart};
use tracing::{debug, error, info, warn};

use super::handshake::{NothingSeen, Outcome, Shown};
use crate::certificates::{Leaf, Moment, Stage};

/// Everything that was seen and has not gone away.
#[derive(Debug)]
pub(super) struct Board {
    sandbox: Vec<SandboxPart>,
    counts: [Cell<u64>; Outcome::ALL.len()],
    /// By tenant and address, in an order in which pages can be told.
    backends: RefCell<BTreeMap<(String, SocketAddr), Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// As it is told.
    told: ProbedBackend,
    /// What was said about the end of each serial, so that each stage is said once.
    stages: HashMap<String, Stage>,
    /// Whether the last look failed, which is said once, too.
    is_failing: bool,
}

impl Board {
    /// `known` is what a former prober knew; of tenants that are still probed it is taken over.
    pub(super) fn new(sandbox: Vec<SandboxPart>, known: Vec<ProbedBackend>, is_probed: impl Fn(&str) -> bool) -> Self {
        let known = known.into_iter().filter(|told| is_probed(&told.tenant)).filter_map(|told| {
            let key = (told.tenant.clone(), told.address.parse().ok()?);
            Some((key, Known { is_failing: !told.ok, told, stages: HashMap::new() }))
        });
        Self { sandbox, counts: Default::default(), backends: RefCell::new(known.collect()) }
    }

    /// How long ago the backend showed its certificate, where the last look was a good one.
    pub(super) fn age(&self, tenant: &str, address: SocketAddr) -> Option<Duration> {
        let backends = self.backends.borrow();
        let told = &backends.get(&(tenant.to_owned(), address))?.told;
        let age = u64::try_from(Moment::now().0.saturating_sub(told.seen)).ok()?;
        told.ok.then_some(Duration::from_secs(age))
    }

    /// Takes note of one look.
    pub(super) fn note(&self, tenant: &str, address: SocketAddr, looked: Result<Shown, NothingSeen>) {
        let outcome = looked.as_ref().err().map_or(Outcome::Ok, |failure| failure.outcome);
        let count = &self.counts[outcome as usize];
        count.set(count.get() + 1);
        let mut backends = self.backends.borrow_mut();
        let known = backends.entry((tenant.to_owned(), address)).or_default();
        (known.told.tenant, known.told.address) = (tenant.to_owned(), address.to_string());
        match looked {
            Ok(shown) => known.saw(&shown, Moment::now()),
            Err(failure) => known.saw_nothing(&failure),
        }
        known.warn(Moment::now());
    }

    /// Looks at the clock: what is known ends between two looks, too.
    pub(super) fn warn_of_ends(&self) {
        self.backends.borrow_mut().values_mut().for_each(|known| known.warn(Moment::now()));
    }

    /// The tenant's other backends are there no more.
    pub(super) fn keep_only(&self, tenant: &str, is_there: impl Fn(SocketAddr) -> bool) {
        self.backends.borrow_mut().retain(|(owner, address), _| owner != tenant || is_there(*address));
    }

    /// What is told of the backends from this one on.
    pub(super) fn page(&self, from: usize) -> ProberStatus {
        let backends = self.backends.borrow();
        let probes = Outcome::ALL.into_iter().zip(&self.counts);
        ProberStatus {
            pid: std::process::id(),
            sandbox: self.sandbox.clone(),
            probes: probes
                .map(|(outcome, count)| ConnectionCount { outcome: outcome.label().to_owned(), count: count.get() })
                .collect(),
            ..ProberStatus::page(backends.values().skip(from).map(|known| known.told.clone()))
        }
    }
}

impl Known {
    fn saw(&mut self, shown: &Shown, now: Moment) {
        let (tenant, backend, leaf) = (&self.told.tenant, &self.told.address, &shown.leaf);
        let (serial, names, not_after) = (&leaf.serial, leaf.names().join(" "), Moment(leaf.not_after));
        match self.told.certificates.first().map(|before| &before.serial) {
            Some(before) if before == serial && self.is_failing => {
                info!(tenant, backend, serial, %not_after, "the backend shows its certificate again");
            }
            Some(before) if before == serial => {}
            Some(before) => {
                info!(tenant, backend, serial, before, names, %not_after, "the backend has another certificate");
            }
            None => info!(tenant, backend, serial, names, %not_after, "the backend's certificate was seen"),
        }
        let certificates = std::iter::once(leaf).chain(&shown.earlier).map(status).collect();
        let (tenant, address) = (tenant.clone(), backend.clone());
        self.told = ProbedBackend { tenant, address, ok: true, seen: now.0, certificates }.bounded();
        self.is_failing = false;
    }

    fn saw_nothing(&mut self, failure: &NothingSeen) {
        let (tenant, backend) = (&self.told.tenant, &self.told.address);
        let (reason, words) = (failure.outcome.label(), &failure.words);
        if std::mem::replace(&mut self.is_failing, true) {
            debug!(tenant, backend, reason, words, "the backend's certificate cannot be seen");
        } else {
            warn!(
                tenant,
                backend, reason, words, "the backend's certificate cannot be seen: what was seen last stays told"
            );
        }
        self.told.ok = false;
    }

    /// Once for each stage, as terminators do for their own certificates.
    fn warn(&mut self, now: Moment) {
        let certificates = &self.told.certificates;
        self.stages.retain(|serial, _| certificates.iter().any(|certificate| certificate.serial == *serial));
        for (number, CertificateStatus { serial, not_before, not_after, .. }) in certificates.iter().enumerate() {
            let Some(stage) = Stage::of(*not_before, *not_after, now) else { continue };
            if self.stages.get(serial).is_some_and(|told| *told >= stage) {
                continue;
            }
            self.stages.insert(serial.clone(), stage);
            let (tenant, backend, not_after) = (&self.told.tenant, &self.told.address, Moment(*not_after));
            let certificate = if number == 0 { "its own" } else { "an issuer's" };
            let days = (not_after.0 - now.0) / SECONDS_PER_DAY;
            match stage {
                Stage::Expired => {
                    error!(tenant, backend, certificate, serial, %not_after, "a backend's certificate has expired: clients refuse it; renew it now");
                }
                Stage::Month | Stage::Week | Stage::Day => {
                    warn!(tenant, backend, certificate, serial, %not_after, days, "a backend's certificate expires soon: renew it");
                }
            }
        }
    }
}

fn status(leaf: &Leaf) -> CertificateStatus {
    CertificateStatus {
        name: String::new(),
        serial: leaf.serial.clone(),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        names: leaf.names(),
    }
}

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "127.0.0.1:443";

    fn shown(serial: &str, left: i64) -> Shown {
        let not_after = Moment::now().0 + left;
        let leaf = Leaf {
            dns_names: vec!["a.example".to_owned()],
            addresses: Vec::new(),
            serial: serial.to_owned(),
            not_before: not_after - 90 * SECONDS_PER_DAY,
            not_after,
        };
        Shown { leaf, earlier: Vec::new() }
    }

    fn nothing() -> NothingSeen {
        NothingSeen { outcome: Outcome::Refused, words: "refused".to_owned() }
    }

    #[test]
    fn what_was_seen_last_stays_told_when_nothing_is_seen() {
        let (board, address) = (Board::new(Vec::new(), Vec::new(), |_| true), ADDRESS.parse().unwrap());
        board.note("t", address, Ok(shown("0A", 50 * SECONDS_PER_DAY)));
        board.note("t", address, Err(nothing()));
        let page = board.page(0);
        let [backend] = &page.backends[..] else { panic!("{page:?}") };
        assert_eq!((backend.ok, backend.certificates[0].serial.as_str()), (false, "0A"));
        let count = |outcome: &str| page.probes.iter().find(|count| count.outcome == outcome).unwrap().count;
        assert_eq!((count("ok"), count("refused"), count("timeout")), (1, 1, 0));
        assert_eq!(board.age("t", address), None);
        board.keep_only("other", |_| false);
        assert_eq!(board.page(0).backends.len(), 1);
        board.keep_only("t", |_| false);
        assert!(board.page(0).backends.is_empty());
    }

    #[test]
    fn each_stage_of_a_serial_is_said_once() {
        let mut known = Known::default();
        let stage = |known: &Known, serial: &str| known.stages.get(serial).copied();
        known.saw(&shown("0A", 20 * SECONDS_PER_DAY), Moment::now());
        known.warn(Moment::now());
        assert_eq!(stage(&known, "0A"), Some(Stage::Month));
        known.warn(Moment(Moment::now().0 + 21 * SECONDS_PER_DAY));
        assert_eq!(stage(&known, "0A"), Some(Stage::Expired));
        known.saw(&shown("0B", 80 * SECONDS_PER_DAY), Moment::now());
        known.warn(Moment::now());
        assert_eq!((stage(&known, "0A"), stage(&known, "0B")), (None, None));
    }

    #[test]
    fn a_successor_begins_with_what_was_known() {
        let address = ADDRESS.parse().unwrap();
        let former = Board::new(Vec::new(), Vec::new(), |_| true);
        former.note("t", address, Ok(shown("0A", SECONDS_PER_DAY)));
        former.note("gone", address, Ok(shown("0B", SECONDS_PER_DAY)));
        let board = Board::new(Vec::new(), former.page(0).backends, |tenant| tenant == "t");
        assert!(board.age("t", address).unwrap() < Duration::from_secs(3600));
        assert_eq!(board.page(0).backends, former.page(1).backends);
        assert_eq!(board.age("gone", address), None);
    }
}

//! Keeps what is served up to date with the tenant's files, for as long as the terminator runs: watches, looks, replaces,
//! and says so in the words of whoever has to act.

mod advertised;
mod backend;
mod ending;
mod event;
mod own;
mod sources;
mod trouble;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use connection::files::{Fingerprint, Watch};
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{error, info, warn};

use self::ending::report_ending;
pub(crate) use self::event::{Event, report};
pub(crate) use self::own::Place;
pub(crate) use self::sources::{Sources, files_of};
use self::trouble::SETTLING;
use crate::certificates::{ExpiryWatch, Moment};
use crate::live_tls::LiveTls;

/// The only one who replaces what is served.
#[derive(Debug)]
pub(crate) struct Keeper {
    sources: Sources,
    live: Arc<LiveTls>,
    expiry: ExpiryWatch,
}

impl Keeper {
    /// Keeps `live` up to date with `sources`.
    pub(crate) fn new(sources: Sources, live: Arc<LiveTls>) -> Self {
        Self { sources, live, expiry: ExpiryWatch::default() }
    }

    /// Never ends. `wanted` asks for a look at once, as SIGHUP does.
    pub(crate) async fn run(mut self, wanted: Arc<Notify>) -> Infallible {
        let (mut watch, error) = Watch::new();
        if let Some(error) = error {
            warn!(%error, "no inotify (fs.inotify.max_user_instances?): certificate files are polled");
        }
        let mut seen = None;
        loop {
            let files = self.sources.files();
            // First the watch and the fingerprint, then the look: what changes in between is noticed again.
            watch.follow(files.iter());
            let fingerprint = Fingerprint::of(files.iter());
            if self.sources.in_trouble() || self.sources.is_due(Moment::now()) || seen.as_ref() != Some(&fingerprint) {
                seen = Some(fingerprint);
                self.look();
            }
            self.warn_of_expiry();
            // Every branch may be dropped: the watch says so, the others wait for nothing but time and a permit.
            tokio::select! {
                () = watch.something_may_have_changed() => {}
                () = wanted.notified() => {
                    info!("SIGHUP: reading the certificate files again");
                    seen = None;
                }
                () = sleep(SETTLING), if self.sources.in_trouble() => {}
            }
        }
    }

    fn look(&mut self) {
        let events = self.sources.refresh(Instant::now());
        if events.iter().any(Event::changes_what_is_served) {
            match self.sources.tls() {
                Ok(tls) => self.live.replace(tls),
                // Every file was found usable, so this is the system: no randomness, most likely.
                Err(error) => error!(%error, "the new certificates cannot be served"),
            }
        }
        events.iter().for_each(report);
    }

    fn warn_of_expiry(&mut self) {
        for warning in self.expiry.warnings(&self.live.current().endings(), Moment::now()) {
            report_ending(&warning, Moment::now());
        }
    }
}

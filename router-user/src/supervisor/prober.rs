//! The prober of certificates: one process beside the terminators, there as long as a tenant has a `certificateProbe`.

use std::path::Path;

use config::Config;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::child::{Child, Retirement};
use super::process::Process;
use super::reload::{News, POLL_INTERVAL, Reloader};
use super::stage::Stage;
use super::successor::{TERMINATOR_PATIENCE, identity};

impl Stage<'_> {
    /// Starts it where it is needed, unless it runs already.
    pub(super) fn start_prober(&self, config: &Config, program: &Path, running: Option<Process>) -> Option<Retirement> {
        config.probed().next()?;
        let (child, retirement) = Child::prober(program, self.config_file, self.roster);
        let child = match running {
            Some(process) => child.that_runs(process),
            None => child,
        };
        let _ = self.news.send(News::Start(child));
        Some(retirement)
    }
}

impl Reloader {
    /// Starts another one for `config`, of the program that is on disk now, or none. The result retires the former one, once
    /// the other has asked it what it knows; it need not be waited for.
    pub(super) fn replace_prober(
        &mut self,
        config: &Config,
        program: &Path,
    ) -> impl Future<Output = ()> + Send + use<> {
        let former = self.prober.take();
        let socket = config.prober_socket();
        let before = identity(&socket);
        let starts = config.probed().next().is_some();
        if starts {
            let (child, retirement) = Child::prober(program, &self.runtime_dir.config(), &self.roster);
            self.prober = Some(retirement);
            let _ = self.news.send(News::Start(child));
        }
        async move {
            let deadline = Instant::now() + TERMINATOR_PATIENCE;
            while former.is_some() && starts && [None, before].contains(&identity(&socket)) {
                if Instant::now() >= deadline {
                    warn!("the new prober does not start: certificates of Passthrough backends are not looked at");
                    break;
                }
                sleep(POLL_INTERVAL).await;
            }
            // What the former one looks at is not what is to be looked at.
            former.into_iter().for_each(Retirement::retire);
        }
    }
}

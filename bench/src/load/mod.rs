//! The load: each measure's clients, and the time during which they count. Knows targets, never who is behind them.

mod connections;
mod machine;
mod many_connections;
mod one_connection;
mod window;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tests::network::Place;

use self::machine::busy_time;
use self::window::Window;
use crate::cell::{Latency, Measure, Sample};
use crate::statistics::percentile;
use crate::target::Target;

/// What clients counted while the window was open.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Connections, messages or bytes.
    amount: u64,
    /// One per connection or message.
    latencies: Vec<Duration>,
    errors: u64,
    /// Of the first that failed.
    first_error: Option<String>,
}

impl Tally {
    fn failed(&mut self, error: &dyn std::fmt::Display) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    fn add(&mut self, other: Self) {
        self.amount += other.amount;
        self.latencies.extend(other.latencies);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// Loads `target` from `place`, counts for `duration` after a warm-up, and asks for the router's processor time at both
/// ends. An error message comes beside the sample.
pub(crate) fn measure(
    measure: Measure,
    place: &Place,
    target: &Arc<Target>,
    duration: Duration,
    router_cpu: impl Fn() -> Result<Option<Duration>>,
) -> Result<(Sample, Option<String>)> {
    let window = Arc::new(Window::default());
    let load = match measure {
        Measure::Connections => connections::answers,
        Measure::Exchanges => connections::exchanges,
        Measure::Bulk => one_connection::download,
        Measure::BulkMany => many_connections::downloads,
        Measure::PingPong => one_connection::ping_pong,
        Measure::PingPongMany => many_connections::ping_pongs,
        Measure::FirstByte => one_connection::first_byte,
    };
    thread::scope(|scope| {
        let clients = scope.spawn(|| place.run(|| load(target, &window)));
        thread::sleep(WARM_UP);
        let (cpu, machine, opened) = (router_cpu()?, busy_time()?, Instant::now());
        window.open();
        thread::sleep(duration);
        window.close();
        let used = Used {
            elapsed: opened.elapsed(),
            machine: busy_time()?.saturating_sub(machine),
            router: router_cpu()?.zip(cpu).map(|(after, before)| after - before),
        };
        let tally = clients.join().unwrap_or_else(|_| bail!("a client panicked"))?;
        Ok(sample(measure, tally, &used))
    })
}

/// Time that passed while the window was open, and processor time.
struct Used {
    elapsed: Duration,
    machine: Duration,
    router: Option<Duration>,
}

fn sample(measure: Measure, mut tally: Tally, used: &Used) -> (Sample, Option<String>) {
    let amount = if measure.is_bulk() { tally.amount as f64 / 1e9 } else { tally.amount as f64 };
    let percentiles = percentile(&mut tally.latencies, 0.5).zip(percentile(&mut tally.latencies, 0.99));
    let sample = Sample {
        per_second: amount / used.elapsed.as_secs_f64(),
        latency: percentiles.map(|(p50, p99)| Latency { p50, p99 }).filter(|_| measure.is_latency()),
        router_cpu: used.router.filter(|_| amount > 0.0).map(|time| time.div_f64(amount)),
        machine_cpu: (amount > 0.0).then(|| used.machine.div_f64(amount)),
        errors: tally.errors,
    };
    (sample, tally.first_error)
}

/// Until caches, congestion windows and the router's choice of data path have settled.
const WARM_UP: Duration = Duration::from_millis(200);

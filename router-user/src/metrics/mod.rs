//! Counters of the router: one set per worker, written without sharing a cache line, summed when somebody asks.

mod counters;
mod exposition;
mod histogram;
mod prober;
mod report;

pub use counters::{Active, TenantCounters, WorkerCounters};
pub use exposition::Exposition;
pub use histogram::{Histogram, HistogramTotal};
pub use prober::ProberReport;
pub use report::{TerminatorReport, report};

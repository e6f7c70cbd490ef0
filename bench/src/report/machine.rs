//! What the figures were measured on.

use std::fmt;
use std::fs;
use std::thread::available_parallelism;

/// As much of a machine as decides how to read its figures.
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// Of the minute before the run; what is not near 0 competes with it.
    pub(crate) load_average: f64,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo");
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cores: available_parallelism().map_or(1, usize::from),
            processor: processor.map_or("unknown processor", |(_, model)| model).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|text| text.parse().ok())
                .unwrap_or(f64::NAN),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, kernel, load_average } = self;
        write!(f, "{cores} cores, {processor}, Linux {kernel}, load average {load_average}")
    }
}

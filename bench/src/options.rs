//! The command line.

use std::time::Duration;

use clap::Parser;

/// Measures sni-router, haproxy and nginx side by side, in both modes.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub struct Options {
    /// The data paths of Passthrough beside each other and beside no router, instead of both modes beside the peers
    #[arg(long)]
    pub data_paths: bool,
    /// With --data-paths: how many connections do nothing while memory is measured; 0 measures none
    #[arg(long, default_value_t = 9_000, value_parser = clap::value_parser!(u32).range(0..=9_400))]
    pub idle: u32,
    /// How often each cell is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How long each time, in seconds
    #[arg(long, default_value = "1.5", value_parser = seconds)]
    pub seconds: Duration,
    /// Only cells whose name holds this, such as terminate/bulk or connections/haproxy; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub only: Vec<String>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if !(0.1..=600.0).contains(&seconds) {
        return Err("between 0.1 and 600".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

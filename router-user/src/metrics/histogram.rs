//! A fixed-bucket histogram that one worker writes and anybody reads.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts observations by upper bound. Values are in the unit of the bounds (seconds or bytes), held as millionths.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One per bound, and one for what is above them all.
    buckets: Box<[AtomicU64]>,
    sum_millionths: AtomicU64,
}

/// The sum of several histograms with the same bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramTotal {
    /// Upper bounds, ascending.
    pub bounds: Cow<'static, [f64]>,
    /// Observations per bucket, not cumulated; one more than there are bounds.
    pub buckets: Vec<u64>,
    /// Sum of all observations.
    pub sum: f64,
}

impl Histogram {
    /// An empty histogram with these ascending upper bounds.
    pub fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum_millionths: AtomicU64::new(0) }
    }

    /// Counts one observation.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_millionths.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }
}

impl HistogramTotal {
    /// Sums up histograms that were made with `bounds`.
    pub fn of<'h>(bounds: &'static [f64], histograms: impl IntoIterator<Item = &'h Histogram>) -> Self {
        let mut total = Self { bounds: bounds.into(), buckets: vec![0; bounds.len() + 1], sum: 0.0 };
        for histogram in histograms {
            for (bucket, count) in total.buckets.iter_mut().zip(&histogram.buckets) {
                *bucket += count.load(Ordering::Relaxed);
            }
            total.sum += histogram.sum_millionths.load(Ordering::Relaxed) as f64 / 1e6;
        }
        total
    }

    /// What a terminator reports; `None` when it does not fit together, since another process wrote it.
    pub fn of_terminator(histogram: &connection::handoff::Histogram) -> Option<Self> {
        (histogram.counts.len() == histogram.bounds.len() + 1).then(|| Self {
            bounds: histogram.bounds.clone().into(),
            buckets: histogram.counts.clone(),
            sum: histogram.sum,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let total = HistogramTotal::of(&[1.0, 2.0], [&histogram, &histogram]);
        assert_eq!(total.buckets, [4, 2, 2]);
        assert_eq!(total.sum, 24.0);
    }
}

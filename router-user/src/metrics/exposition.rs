//! The Prometheus text format, version 0.0.4: families, samples, escaped label values.

use std::fmt::{Display, Write as _};

use super::HistogramTotal;

/// A page of metrics that grows family by family.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// Label names and values of one sample.
pub(super) type Labels<'l> = &'l [(&'l str, &'l str)];

impl Exposition {
    /// Starts a family; its samples must follow before the next family starts.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds one sample of the current family.
    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        self.labels(labels, None);
        self.write(format_args!(" {value}\n"));
    }

    /// Adds one histogram of the current family: cumulated buckets, sum and count.
    pub fn histogram(&mut self, name: &str, labels: Labels<'_>, total: &HistogramTotal) {
        let mut cumulated = 0_u64;
        for (position, count) in total.buckets.iter().enumerate() {
            cumulated = cumulated.saturating_add(*count);
            let bound = total.bounds.get(position).map_or("+Inf".to_owned(), f64::to_string);
            self.write(format_args!("{name}_bucket"));
            self.labels(labels, Some(&bound));
            self.write(format_args!(" {cumulated}\n"));
        }
        for (suffix, value) in [("_sum", total.sum), ("_count", cumulated as f64)] {
            self.write(format_args!("{name}{suffix}"));
            self.labels(labels, None);
            self.write(format_args!(" {value}\n"));
        }
    }

    /// The finished page.
    pub fn finish(self) -> String {
        self.text
    }

    fn labels(&mut self, labels: Labels<'_>, bound: Option<&str>) {
        let bound = bound.map(|bound| ("le", bound));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            self.text.push(separator);
            self.write(format_args!("{name}=\""));
            for character in value.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Exposition::default();
        page.sample("m", &[("a", "x\"y\\z\n"), ("b", "")], 1);
        assert_eq!(page.finish(), "m{a=\"x\\\"y\\\\z\\n\",b=\"\"} 1\n");
    }

    #[test]
    fn histogram_buckets_are_cumulated() {
        let mut page = Exposition::default();
        let total = HistogramTotal { bounds: [0.5, 1.0].as_slice().into(), buckets: vec![1, 2, 3], sum: 4.5 };
        page.histogram("h", &[], &total);
        let expected = "h_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 6\nh_sum 4.5\nh_count 6\n";
        assert_eq!(page.finish(), expected);
    }
}

//! The Prometheus text format, as much of it as is needed to ask for a counter.

use anyhow::{Context, Result, bail};

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Parses a scrape; a line that is no sample and no comment is an error.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples =
            lines.map(|line| sample(line).with_context(|| format!("metrics line {line:?}"))).collect::<Result<_>>()?;
        Ok(Self { samples })
    }

    /// The sum of all samples of this name that carry these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// Whether there is such a sample at all.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.iter().any(|(k, v)| k == key && v == value))
        })
    }
}

fn sample(line: &str) -> Result<Sample> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let value = value.parse().context("value")?;
    let Some((name, labels)) = series.split_once('{') else {
        return Ok(Sample { name: series.to_owned(), labels: Vec::new(), value });
    };
    let labels = label_pairs(labels.strip_suffix('}').context("no closing brace")?)?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

fn label_pairs(mut text: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once("=\"").context("no label value")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped)) => value.push(escaped),
                    None => bail!("unfinished escape"),
                },
                Some((_, plain)) => value.push(plain),
                None => bail!("unfinished label value"),
            }
        };
        pairs.push((key.to_owned(), value));
        text = rest[end + 1..].trim_start_matches(',');
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_are_not_named() {
        let metrics = Metrics::parse(
            "# TYPE c counter\nc{tenant=\"a\",outcome=\"ok\"} 2\nc{tenant=\"b\",outcome=\"ok\"} 3\nc{tenant=\"b\",outcome=\"reset\"} 1\nup 1\n",
        )
        .unwrap();
        assert_eq!(metrics.sum("c", &[("outcome", "ok")]), 5.0);
        assert_eq!(metrics.sum("c", &[("tenant", "b"), ("outcome", "reset")]), 1.0);
        assert_eq!(metrics.sum("up", &[]), 1.0);
        assert!(!metrics.has("c", &[("tenant", "c")]));
    }

    #[test]
    fn label_values_are_unescaped() {
        let metrics = Metrics::parse("c{reason=\"a \\\"b\\\", \\\\ c\"} 1\n").unwrap();
        assert!(metrics.has("c", &[("reason", "a \"b\", \\ c")]));
    }
}

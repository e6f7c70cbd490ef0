//! What it costs to find the tenant of a name among 100, 100,000 and 1,000,000 hostnames, half of them wildcards. Each
//! look-up asks for another name, in random order, so that large tables pay for the caches that they overflow.

#![allow(missing_docs, reason = "the macros of criterion write undocumented functions")]
#![allow(clippy::panic, reason = "a bench that measures the wrong thing has to stop")]

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, HostnamePattern, Tenant};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use router_user::routing::{Match, RouteTable};

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route_table");
    group.measurement_time(Duration::from_secs(3));
    for names in [100, 100_000, 1_000_000] {
        let table = RouteTable::new(&config(names));
        assert_eq!(table.len(), names);
        for case in [EXACT, WILDCARD, MISS] {
            let questions = Questions::new(names / 2, case.name);
            questions.texts().for_each(|text| assert!((case.expected)(table.find(text)), "{}: {text}", case.title));
            let mut texts = questions.texts().cycle();
            group.bench_function(BenchmarkId::new(case.title, names), |bencher| {
                bencher.iter(|| table.find(black_box(texts.next().unwrap_or_default())));
            });
        }
    }
    group.finish();
}

/// One way in which a look-up can end.
struct Case {
    title: &'static str,
    /// The name of this number.
    name: fn(usize) -> String,
    expected: fn(Option<Match>) -> bool,
}

const EXACT: Case = Case { title: "exact", name: exact, expected: |found| matches!(found, Some(Match::Exact(_))) };
const WILDCARD: Case = Case {
    title: "wildcard",
    name: |number| format!("pod-{}.{}", number % 10, parent(number)),
    expected: |found| matches!(found, Some(Match::Wildcard(_))),
};
const MISS: Case = Case {
    title: "miss",
    name: |number| format!("www.shop-{number}.unknown.example"),
    expected: |found| found.is_none(),
};

/// As many hostnames, in tenants of a hundred.
fn config(names: usize) -> Config {
    let patterns = (0..names / 2).flat_map(|number| [exact(number), format!("*.{}", parent(number))]);
    let patterns: Vec<_> = patterns
        .map(|text| HostnamePattern::parse(&text))
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("a hostname of this bench: {error}"));
    let mut config = Config::from_yaml(ONE_TENANT).unwrap_or_else(|errors| panic!("{errors}"));
    let one = config.tenants.remove(0);
    let tenants = patterns.chunks(100).map(|hostnames| {
        let hostnames = hostnames.to_vec();
        Arc::new(Tenant { hostnames, ..Tenant::clone(&one) })
    });
    config.tenants = tenants.collect();
    config
}

fn exact(number: usize) -> String {
    format!("www.shop-{number}.customers.example")
}

fn parent(number: usize) -> String {
    format!("team-{number}.clusters.example")
}

/// Names in random order, one behind the other in memory: a real hello's name has just been received and is in the
/// cache, so fetching the question must not cost what fetching the answer does.
struct Questions {
    text: String,
    ranges: Vec<Range<usize>>,
}

impl Questions {
    fn new(count: usize, name: impl Fn(usize) -> String) -> Self {
        let mut numbers: Vec<_> = (0..count).collect();
        shuffle(&mut numbers);
        let mut questions = Self { text: String::new(), ranges: Vec::with_capacity(count) };
        for number in numbers {
            let start = questions.text.len();
            questions.text += &name(number);
            questions.ranges.push(start..questions.text.len());
        }
        questions
    }

    fn texts(&self) -> impl Iterator<Item = &str> + Clone {
        self.ranges.iter().map(|range| &self.text[range.clone()])
    }
}

/// Fisher and Yates, with the same order in each run.
fn shuffle(numbers: &mut [usize]) {
    let mut state = 1_u64;
    for last in (1..numbers.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        numbers.swap(last, (state >> 33) as usize % (last + 1));
    }
}

const ONE_TENANT: &str = r#"
listeners: [{ name: tls, address: "127.0.0.1:8443" }]
tenants:
  - { name: shop, hostnames: ["shop.example"], mode: Passthrough, backends: [{ address: "127.0.0.1:1" }] }
"#;

criterion_group!(benches, find);
criterion_main!(benches);

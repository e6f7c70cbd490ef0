//! What it costs to read a configuration of 100,000 tenants: as a whole, as at the start, and its next version in which
//! ten tenants differ, as in a reload.

#![allow(missing_docs, reason = "the macros of criterion write undocumented functions")]
#![allow(clippy::panic, reason = "a bench that measures the wrong thing has to stop")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use config::Config;
use criterion::{Criterion, criterion_group, criterion_main};

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("configuration_of_100000_tenants");
    group.sample_size(10);
    let (former, text) = (text(0), text(CHANGED));
    let file = Path::new("router.yaml");
    let before = Config::of_file(file, &former).unwrap_or_else(|error| panic!("{error}"));
    let next = || before.of_next_version(black_box(&former), file, black_box(&text));
    let shared = next().unwrap_or_else(|error| panic!("{error}")).tenants;
    assert_eq!(shared.iter().zip(&before.tenants).filter(|(next, before)| !Arc::ptr_eq(next, before)).count(), CHANGED);
    group.bench_function("whole", |bencher| bencher.iter(|| Config::of_file(file, black_box(&text))));
    group.bench_function("next_version", |bencher| bencher.iter(next));
    group.finish();
}

/// The first `changed` tenants have another backend.
fn text(changed: usize) -> String {
    let tenant = |number: usize| {
        let port = if number < changed { 8443 } else { 443 };
        format!(
            "  - name: t{number}\n    hostnames: [\"h{number}.example\"]\n    mode: Passthrough\n    backends: [{{ address: \"192.0.2.1:{port}\" }}]\n"
        )
    };
    let tenants: String = (0..TENANTS).map(tenant).collect();
    format!("listeners: [{{ name: tls, address: \"127.0.0.1:8443\" }}]\ntenants:\n{tenants}")
}

const TENANTS: usize = 100_000;
const CHANGED: usize = 10;

criterion_group!(benches, read);
criterion_main!(benches);

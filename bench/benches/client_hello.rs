//! What it costs to read a ClientHello: a classic one and a post-quantum one, as sent, in small records, cut short,
//! and its fingerprint.

#![allow(missing_docs, reason = "the macros of criterion write undocumented functions")]
#![allow(clippy::panic, reason = "a bench that measures the wrong thing has to stop")]

use std::hint::black_box;

use client_hello::{ClientHello, ClientHelloParser, Parse};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A name for the report, and the hello as its client sent it.
const HELLOS: [(&str, &[u8]); 2] = [
    ("classic", include_bytes!("../../client-hello/tests/captures/openssl3.0.bin")),
    ("post_quantum", include_bytes!("../../client-hello/tests/captures/chromium.bin")),
];

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("client_hello");
    for (name, bytes) in HELLOS {
        let mut parser = ClientHelloParser::new(65_536);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("one_record", name), |bencher| {
            bencher.iter(|| assert!(read(&mut parser, bytes).is_some()));
        });
        let small_records = in_records(&bytes[5..], 64);
        group.bench_function(BenchmarkId::new("records_of_64_bytes", name), |bencher| {
            bencher.iter(|| assert!(read(&mut parser, &small_records).is_some()));
        });
        let first_segment = &bytes[..bytes.len() - 1];
        group.bench_function(BenchmarkId::new("last_byte_missing", name), |bencher| {
            bencher.iter(|| assert!(read(&mut parser, first_segment).is_none()));
        });
    }
    group.finish();
}

fn ja4(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ja4");
    for (name, bytes) in HELLOS {
        let mut parser = ClientHelloParser::new(65_536);
        let Some(hello) = read(&mut parser, bytes) else {
            panic!("{name} is not a hello");
        };
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&hello).ja4()));
    }
    group.finish();
}

fn read<'a>(parser: &'a mut ClientHelloParser, bytes: &'a [u8]) -> Option<ClientHello<'a>> {
    match parser.parse(black_box(bytes)) {
        Parse::ClientHello(hello) => Some(hello),
        _ => None,
    }
}

fn in_records(message: &[u8], record: usize) -> Vec<u8> {
    let records = message.chunks(record).flat_map(|fragment| {
        let length = (fragment.len() as u16).to_be_bytes();
        [&[0x16, 3, 1], &length[..], fragment].concat()
    });
    records.collect()
}

criterion_group!(benches, parse, ja4);
criterion_main!(benches);

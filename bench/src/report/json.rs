//! The run as one JSON document, for machines that compare runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::Report;
use crate::cell::Sample;
use crate::contest::Series;
use crate::idle::Idle;
use crate::statistics::median;

pub(super) fn document(report: &Report<'_>, results: &[Series<'_>], idle: &[Idle<'_>]) -> Value {
    let Report { options, network, subjects, machine } = report;
    json!({
        "machine": {
            "cores": machine.cores,
            "processor": machine.processor,
            "kernel": machine.kernel,
            "load_average": machine.load_average,
        },
        "network": network.description,
        "programs": subjects.versions,
        "left_out": subjects.missing,
        "rounds": options.rounds,
        "seconds": options.seconds.as_secs_f64(),
        "cells": results.iter().map(cell).collect::<Vec<_>>(),
        "idle_connections": options.idle,
        "idle": idle.iter().map(memory).collect::<Vec<_>>(),
    })
}

/// Bytes: of the router and of the kernel for each connection, of the maps altogether.
fn memory(idle: &Idle<'_>) -> Value {
    json!({ "subject": idle.subject.name, "router": idle.router, "kernel": idle.kernel, "maps": idle.maps })
}

fn cell(series: &Series<'_>) -> Value {
    let of = |value: fn(&Sample) -> Option<f64>| median(series.samples.iter().filter_map(value));
    json!({
        "mode": series.cell.subject.mode.name(),
        "measure": series.cell.measure.name(),
        "subject": series.cell.subject.name,
        "median": {
            "per_second": of(|sample| Some(sample.per_second)),
            "p50_us": of(p50),
            "p99_us": of(p99),
            "router_cpu_us": of(router_cpu),
            "machine_cpu_us": of(machine_cpu),
        },
        "errors": series.samples.iter().map(|sample| sample.errors).sum::<u64>(),
        "first_error": series.first_error,
        "rounds": series.samples.iter().map(sample).collect::<Vec<_>>(),
    })
}

/// Per second: connections, messages or, for bulk, gigabytes; processor time is per one of them.
fn sample(sample: &Sample) -> Value {
    json!({
        "per_second": sample.per_second,
        "p50_us": p50(sample),
        "p99_us": p99(sample),
        "router_cpu_us": router_cpu(sample),
        "machine_cpu_us": machine_cpu(sample),
        "errors": sample.errors,
    })
}

fn p50(sample: &Sample) -> Option<f64> {
    sample.latency.map(|latency| microseconds(latency.p50))
}

fn p99(sample: &Sample) -> Option<f64> {
    sample.latency.map(|latency| microseconds(latency.p99))
}

fn router_cpu(sample: &Sample) -> Option<f64> {
    sample.router_cpu.map(microseconds)
}

fn machine_cpu(sample: &Sample) -> Option<f64> {
    sample.machine_cpu.map(microseconds)
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

//! How a flow of another layout ended, from its record and the note that says where in it the numbers are. Pure.

use router_common::cut_through::{BACKEND, CLIENT, LifeStage, NumbersAt, RESET_EXACT};

use crate::ebpf::cut_through::flows::{FlowEnd, FlowOutcome};
use crate::ebpf::cut_through::record::delivered_of;

/// Of the whole record of a flow that is over; `None` when who began it has told its end, or what is there is no record.
pub(in crate::ebpf::cut_through) fn end_of(record: &[u8], at: NumbersAt) -> Option<FlowEnd> {
    let [ended, stage, ..] = [u32_at(record, 0)?, u16_at(record, 12)?.into()];
    let outcome_by_stage = match stage {
        told if told == LifeStage::Told as u32 => return None,
        ending if ending == LifeStage::Ending as u32 => Some(FlowOutcome::Drained),
        _ => None,
    };
    let between = u16_at(record, 10)?.checked_sub(u16_at(record, 8)?)?;
    let both = |client: u16| Some([usize::from(client), usize::from(client.checked_add(between)?)]);
    let [client, backend] = both(at.acknowledged)?;
    let acknowledged = [u64_at(record, client)?, u64_at(record, backend)?];
    let [client, backend] = both(at.fin_acknowledged)?;
    let fin_acknowledged = [*record.get(client)?, *record.get(backend)?];
    let [client, backend] = both(at.reset)?;
    let resets = [*record.get(client)?, *record.get(backend)?];
    let starts = at.stream_starts.into();
    let stream_starts = [u32_at(record, starts)?, u32_at(record, starts + 4)?];
    let [client_to_backend, backend_to_client] = delivered_of(acknowledged, stream_starts, fin_acknowledged);
    let outcome = outcome_by_stage.unwrap_or(match (fin_acknowledged, resets) {
        ([1, 1], _) => FlowOutcome::Ok,
        (_, [RESET_EXACT, _]) => FlowOutcome::ClientReset,
        (_, [_, RESET_EXACT]) => FlowOutcome::BackendReset,
        // What was plausible and has not been answered was meant (`Collector::look_again`).
        (_, [1..=u8::MAX, _]) if ended != 0 => FlowOutcome::ClientReset,
        (_, [_, 1..=u8::MAX]) if ended != 0 => FlowOutcome::BackendReset,
        _ => FlowOutcome::IdleTimeout,
    });
    Some(FlowEnd { client_to_backend, backend_to_client, outcome })
}

fn u16_at(record: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(record.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(record: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(record: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?))
}

const _: () = assert!(CLIENT == 0 && BACKEND == 1, "the order of the pairs above");

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of another layout: 16 bytes of head, then stream starts, then two directions of 24 bytes.
    fn record(stage: LifeStage, ended: u32, fins: [u8; 2], resets: [u8; 2]) -> Vec<u8> {
        let mut record = vec![0; 24 + 2 * 24];
        record[0..4].copy_from_slice(&ended.to_ne_bytes());
        record[8..10].copy_from_slice(&32_u16.to_ne_bytes());
        record[10..12].copy_from_slice(&56_u16.to_ne_bytes());
        record[12..14].copy_from_slice(&(stage as u16).to_ne_bytes());
        record[16..20].copy_from_slice(&1000_u32.to_ne_bytes());
        record[20..24].copy_from_slice(&7_u32.to_ne_bytes());
        // The backend has acknowledged 500 bytes of the client and its FIN, the client 5 GB and none.
        for (direction, acknowledged) in [7 + 5_000_000_000, 1000 + 500 + u64::from(fins[1])].into_iter().enumerate() {
            let start = 24 + 24 * direction;
            record[start..start + 8].copy_from_slice(&acknowledged.to_ne_bytes());
            record[start + 16] = fins[direction];
            record[start + 17] = resets[direction];
        }
        record
    }

    const AT: NumbersAt = NumbersAt { stream_starts: 16, acknowledged: 24, fin_acknowledged: 40, reset: 41 };

    #[test]
    fn bytes_and_outcome_are_found_where_the_note_says() {
        let end = |stage, ended, fins, resets| end_of(&record(stage, ended, fins, resets), AT);
        let expected = |outcome| Some(FlowEnd { client_to_backend: 500, backend_to_client: 5_000_000_000, outcome });
        let carried = LifeStage::Carried;
        let of_both = FlowEnd { backend_to_client: 4_999_999_999, ..expected(FlowOutcome::Ok).unwrap() };
        assert_eq!(end(carried, 1, [1, 1], [0, 0]), Some(of_both));
        assert_eq!(end(carried, 1, [0, 1], [RESET_EXACT, 0]), expected(FlowOutcome::ClientReset));
        assert_eq!(end(carried, 1, [0, 0], [0, RESET_EXACT]), expected(FlowOutcome::BackendReset));
        assert_eq!(end(carried, 1, [0, 0], [0, 1]), expected(FlowOutcome::BackendReset));
        assert_eq!(end(carried, 0, [0, 1], [0, 0]), expected(FlowOutcome::IdleTimeout));
        assert_eq!(end(LifeStage::Ending, 0, [0, 0], [0, 0]), expected(FlowOutcome::Drained));
        assert_eq!(end(LifeStage::Told, 1, [1, 1], [0, 0]), None);
    }

    #[test]
    fn numbers_outside_of_the_record_are_none() {
        let record = record(LifeStage::Carried, 1, [1, 1], [0, 0]);
        for length in 0..24 {
            assert_eq!(end_of(&record[..length], AT), None);
        }
        assert_eq!(end_of(&record, NumbersAt { acknowledged: u16::MAX, ..AT }), None);
        assert_eq!(end_of(&record, NumbersAt { reset: 60, ..AT }), None);
    }
}

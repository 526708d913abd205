//! Rows and samples as messages of the format, and what they cost.

use super::tail::Row;
use crate::columns::{or_zero, pack, pack_times, steps};
use crate::limits::{cut_command, cut_owned};
use crate::proto;
use crate::tables::{
    Header, Location, Mapping, Process, RssPoint, Sample, StackId, StackNode, State, Thread,
    Totals, Trust, WeightKind,
};
use std::sync::Arc;

/// Reasons of loss that a block lists; the rest are summed up.
const MAX_REASONS: usize = 1000;

impl Row for Arc<str> {
    fn cost(&self) -> usize {
        self.len() + 8
    }
}

impl Row for Location {
    fn cost(&self) -> usize {
        32
    }
}

impl Row for StackNode {
    fn cost(&self) -> usize {
        12
    }
}

impl Row for Thread {
    fn cost(&self) -> usize {
        64
    }
}

impl Row for Sample {
    fn cost(&self) -> usize {
        40
    }
}

impl Row for RssPoint {
    fn cost(&self) -> usize {
        32
    }
}

fn text_cost(texts: &[String]) -> usize {
    texts.iter().map(|text| text.len() + 8).sum()
}

impl Row for Process {
    fn cost(&self) -> usize {
        64 + text_cost(&self.command) + self.python.len() + self.executable.len()
    }
}

impl Row for Mapping {
    fn cost(&self) -> usize {
        64 + self.path.len() + self.build_id.len()
    }
}

impl Row for Header {
    fn cost(&self) -> usize {
        64 + text_cost(&self.command_line) + self.onlooker_version.len() + self.program.len()
    }
}

/// `header` with its strings cut to what the format stores.
pub(super) fn cut_header(header: Header) -> Header {
    Header {
        onlooker_version: cut_owned(header.onlooker_version),
        command_line: cut_command(header.command_line),
        program: cut_owned(header.program),
        ..header
    }
}

/// `process` with its strings cut to what the format stores.
pub(super) fn cut_process(process: Process) -> Process {
    Process {
        command: cut_command(process.command),
        python: cut_owned(process.python),
        executable: cut_owned(process.executable),
        ..process
    }
}

/// `mapping` with its strings cut to what the format stores.
pub(super) fn cut_mapping(mapping: Mapping) -> Mapping {
    Mapping {
        path: cut_owned(mapping.path),
        build_id: cut_owned(mapping.build_id),
        ..mapping
    }
}

pub(super) fn header((_, rows): (u32, &[Header])) -> Option<proto::Header> {
    rows.first().map(|header| proto::Header {
        onlooker_version: header.onlooker_version.clone(),
        command_line: header.command_line.clone(),
        program: header.program.clone(),
        started_unix_ns: header.started_unix_ns,
        rate_hz: header.rate_hz,
    })
}

pub(super) fn strings((first_id, rows): (u32, &[Arc<str>])) -> Option<proto::Strings> {
    (!rows.is_empty()).then(|| proto::Strings {
        first_id,
        values: rows.iter().map(|text| text.as_ref().to_owned()).collect(),
    })
}

pub(super) fn locations((first_id, rows): (u32, &[Location])) -> Option<proto::Locations> {
    (!rows.is_empty()).then(|| proto::Locations {
        first_id,
        count: rows.len() as u32,
        name_step: steps(rows.iter().map(|row| row.name.0)),
        filename_step: steps(rows.iter().map(|row| row.filename.0)),
        line: pack(rows.iter().map(|row| or_zero(row.line)).collect()),
        column: pack(rows.iter().map(|row| or_zero(row.column)).collect()),
        end_line_after_line: pack(rows.iter().map(lines_after).collect()),
        end_column: pack(rows.iter().map(|row| or_zero(row.end_column)).collect()),
    })
}

fn lines_after(row: &Location) -> i64 {
    or_zero(row.end_line).cast_signed() - or_zero(row.line).cast_signed()
}

pub(super) fn stacks((first_id, rows): (u32, &[StackNode])) -> Option<proto::Stacks> {
    let distance = |(id, row): (u32, &StackNode)| row.parent.map_or(0, |parent| id - parent.0);
    (!rows.is_empty()).then(|| proto::Stacks {
        first_id,
        count: rows.len() as u32,
        parent_distance: pack((first_id..u32::MAX).zip(rows).map(distance).collect()),
        location_step: steps(rows.iter().map(|row| row.location.0)),
    })
}

pub(super) fn processes((first_id, rows): (u32, &[Process])) -> Option<proto::Processes> {
    let message = |row: &Process| proto::Process {
        pid: row.pid,
        parent_pid: row.parent_pid,
        command: row.command.clone(),
        python: row.python.clone(),
        executable: row.executable.clone(),
    };
    (!rows.is_empty()).then(|| proto::Processes {
        first_id,
        values: rows.iter().map(message).collect(),
    })
}

pub(super) fn threads((first_id, rows): (u32, &[Thread])) -> Option<proto::Threads> {
    let message = |row: &Thread| proto::Thread {
        process: row.process.0,
        os_thread_id: row.os_thread_id,
        thread_id: row.thread_id,
        interpreter: row.interpreter,
        name: row.name.0,
    };
    (!rows.is_empty()).then(|| proto::Threads {
        first_id,
        values: rows.iter().map(message).collect(),
    })
}

pub(super) fn mappings((first_id, rows): (u32, &[Mapping])) -> Option<proto::Mappings> {
    let message = |row: &Mapping| proto::Mapping {
        process: row.process.0,
        start: row.start,
        end: row.end,
        file_offset: row.file_offset,
        path: row.path.clone(),
        build_id: row.build_id.clone(),
    };
    (!rows.is_empty()).then(|| proto::Mappings {
        first_id,
        values: rows.iter().map(message).collect(),
    })
}

pub(super) fn samples(unit_ns: u64, first_index: u64, rows: &[Sample]) -> proto::Samples {
    let stack = |row: &Sample| or_zero(row.stack.map(|StackId(id)| id));
    let reason = |row: &Sample| or_zero(row.reason.map(|reason| reason.0));
    proto::Samples {
        first_index,
        count: rows.len() as u32,
        times: (!rows.is_empty()).then(|| pack_times(unit_ns, rows.iter().map(|row| row.time_ns))),
        thread: pack(rows.iter().map(|row| row.thread.0).collect()),
        stack: pack(rows.iter().map(stack).collect()),
        state: pack(rows.iter().map(|row| state(row.state)).collect()),
        trust: pack(rows.iter().map(|row| trust(row.trust)).collect()),
        reason: pack(rows.iter().map(reason).collect()),
        weight_kind: pack(
            rows.iter()
                .map(|row| weight_kind(row.weight_kind))
                .collect(),
        ),
        weight: pack(rows.iter().map(|row| row.weight).collect()),
    }
}

pub(super) fn rss(unit_ns: u64, rows: &[RssPoint]) -> Option<proto::RssSeries> {
    (!rows.is_empty()).then(|| proto::RssSeries {
        count: rows.len() as u32,
        times: Some(pack_times(unit_ns, rows.iter().map(|row| row.time_ns))),
        process: pack(rows.iter().map(|row| row.process.0).collect()),
        rss_bytes: pack(rows.iter().map(|row| row.rss_bytes).collect()),
    })
}

fn state(state: State) -> u32 {
    u32::from(state.running)
        | u32::from(state.holds_gil) << 1
        | u32::from(state.waits_for_gil) << 2
        | u32::from(state.known) << 3
        | u32::from(state.sleeping) << 4
}

fn trust(trust: Trust) -> u32 {
    match trust {
        Trust::Verified => 0,
        Trust::Unverified => 1,
    }
}

fn weight_kind(kind: WeightKind) -> u32 {
    match kind {
        WeightKind::Samples => 0,
        WeightKind::Nanoseconds => 1,
        WeightKind::BytesGrown => 2,
        WeightKind::BytesKept => 3,
        WeightKind::BytesFile => 4,
    }
}

pub(super) fn totals(totals: &Totals) -> proto::Totals {
    proto::Totals {
        duration_ns: totals.duration_ns,
        ticks: totals.ticks,
        missed_ticks: totals.missed_ticks,
        verified: totals.verified,
        unverified: totals.unverified,
        unverified_by: by_reason(&totals.unverified_by),
        lost: by_reason(&totals.lost),
        retries: totals.retries,
        read_calls: totals.read_calls,
        read_segments: totals.read_segments,
        read_bytes: totals.read_bytes,
        code_calls: totals.code_calls,
        code_bytes: totals.code_bytes,
        own_cpu_ns: totals.own_cpu_ns,
    }
}

fn by_reason(counts: &[(String, u64)]) -> Vec<proto::Lost> {
    let (listed, rest) = counts.split_at(counts.len().min(MAX_REASONS));
    let row = |(reason, count): &(String, u64)| proto::Lost {
        reason: reason.chars().take(100).collect(),
        count: *count,
    };
    let mut reasons: Vec<_> = listed.iter().map(row).collect();
    if !rest.is_empty() {
        reasons.push(proto::Lost {
            reason: "other".to_owned(),
            count: rest.iter().map(|(_, count)| count).sum(),
        });
    }
    reasons
}

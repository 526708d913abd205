//! A block's message as rows and samples, checked. Ids are still those of the file.

use crate::columns::{Climb, Column, InvalidValue, from_or_zero, invalid, unpack_times};
use crate::limits::MAX_ROWS;
use crate::proto;
use crate::tables::{
    Header, Location, LocationId, Mapping, Process, ProcessId, RssPoint, Sample, StackId,
    StackNode, State, StringId, Thread, ThreadId, Totals, Trust, WeightKind,
};

/// Rows with consecutive ids.
pub(super) struct Run<T> {
    pub(super) first_id: u32,
    pub(super) rows: Vec<T>,
}

impl<T> Run<T> {
    fn new(what: &'static str, first_id: u32, rows: Vec<T>) -> Result<Self, InvalidValue> {
        let end = u64::from(first_id) + rows.len() as u64;
        if end > u64::from(u32::MAX) {
            return Err(invalid(what, end));
        }
        Ok(Self { first_id, rows })
    }
}

/// Rows of every table.
pub(super) struct Rows {
    pub(super) header: Option<Header>,
    pub(super) strings: Run<String>,
    pub(super) locations: Run<Location>,
    pub(super) stacks: Run<StackNode>,
    pub(super) processes: Run<Process>,
    pub(super) threads: Run<Thread>,
    pub(super) mappings: Run<Mapping>,
}

fn count(what: &'static str, count: u32) -> Result<usize, InvalidValue> {
    let rows = count as usize;
    if rows > MAX_ROWS {
        return Err(invalid(what, count));
    }
    Ok(rows)
}

pub(super) fn rows(rows: proto::Rows) -> Result<Rows, InvalidValue> {
    let strings = rows.strings.unwrap_or_default();
    Ok(Rows {
        header: rows.header.map(header),
        strings: Run::new("id of a string", strings.first_id, strings.values)?,
        locations: locations(&rows.locations.unwrap_or_default())?,
        stacks: stacks(&rows.stacks.unwrap_or_default())?,
        processes: processes(rows.processes.unwrap_or_default())?,
        threads: threads(&rows.threads.unwrap_or_default())?,
        mappings: mappings(rows.mappings.unwrap_or_default())?,
    })
}

fn header(header: proto::Header) -> Header {
    Header {
        onlooker_version: header.onlooker_version,
        command_line: header.command_line,
        program: header.program,
        started_unix_ns: header.started_unix_ns,
        rate_hz: header.rate_hz,
    }
}

fn locations(from: &proto::Locations) -> Result<Run<Location>, InvalidValue> {
    let count = count("number of locations", from.count)?;
    let mut name = Climb::new("name of a location", &from.name_step, count)?;
    let mut filename = Climb::new("file of a location", &from.filename_step, count)?;
    let line = Column::new("line", &from.line, count)?;
    let column = Column::new("column", &from.column, count)?;
    let lines_after = Column::new("end line", &from.end_line_after_line, count)?;
    let end_column = Column::new("end column", &from.end_column, count)?;
    let location = |row| {
        let end_line = i128::from(line.at(row)) + i128::from(lines_after.at(row));
        Ok(Location {
            name: StringId(name.next(row)?),
            filename: StringId(filename.next(row)?),
            line: from_or_zero("line", line.at(row))?,
            column: from_or_zero("column", column.at(row))?,
            end_line: from_or_zero("end line", end_line)?,
            end_column: from_or_zero("end column", end_column.at(row))?,
        })
    };
    let rows = (0..count).map(location).collect::<Result<_, _>>()?;
    Run::new("id of a location", from.first_id, rows)
}

fn stacks(from: &proto::Stacks) -> Result<Run<StackNode>, InvalidValue> {
    let count = count("number of stacks", from.count)?;
    let distance = Column::new("distance of a parent", &from.parent_distance, count)?;
    let mut location = Climb::new("location of a stack", &from.location_step, count)?;
    let node = |row: usize| {
        let id = u64::from(from.first_id) + row as u64;
        let parent = match u64::from(distance.at(row)) {
            0 => None,
            distance if distance <= id => from_or_zero("parent", id - distance + 1)?.map(StackId),
            distance => return Err(invalid("distance of a parent", distance)),
        };
        Ok(StackNode {
            parent,
            location: LocationId(location.next(row)?),
        })
    };
    let rows = (0..count).map(node).collect::<Result<_, _>>()?;
    Run::new("id of a stack", from.first_id, rows)
}

fn processes(from: proto::Processes) -> Result<Run<Process>, InvalidValue> {
    let process = |row: proto::Process| Process {
        pid: row.pid,
        parent_pid: row.parent_pid,
        command: row.command,
        python: row.python,
        executable: row.executable,
    };
    let rows = from.values.into_iter().map(process).collect();
    Run::new("id of a process", from.first_id, rows)
}

fn threads(from: &proto::Threads) -> Result<Run<Thread>, InvalidValue> {
    let thread = |row: &proto::Thread| Thread {
        process: ProcessId(row.process),
        os_thread_id: row.os_thread_id,
        thread_id: row.thread_id,
        interpreter: row.interpreter,
        name: StringId(row.name),
    };
    let rows = from.values.iter().map(thread).collect();
    Run::new("id of a thread", from.first_id, rows)
}

fn mappings(from: proto::Mappings) -> Result<Run<Mapping>, InvalidValue> {
    let mapping = |row: proto::Mapping| Mapping {
        process: ProcessId(row.process),
        start: row.start,
        end: row.end,
        file_offset: row.file_offset,
        path: row.path,
        build_id: row.build_id,
    };
    let rows = from.values.into_iter().map(mapping).collect();
    Run::new("index of a mapping", from.first_id, rows)
}

pub(super) fn samples(from: &proto::Samples) -> Result<Vec<Sample>, InvalidValue> {
    let count = count("number of samples", from.count)?;
    let times = from.times.clone().unwrap_or_default();
    let thread = Column::new("thread of a sample", &from.thread, count)?;
    let stack = Column::new("stack of a sample", &from.stack, count)?;
    let states = Column::new("state", &from.state, count)?;
    let trusts = Column::new("trust", &from.trust, count)?;
    let reason = Column::new("reason", &from.reason, count)?;
    let kind = Column::new("kind of weight", &from.weight_kind, count)?;
    let weight = Column::new("weight", &from.weight, count)?;
    unpack_times(&times, count)?
        .enumerate()
        .map(|(row, time_ns)| {
            Ok(Sample {
                time_ns: time_ns?,
                thread: ThreadId(thread.at(row)),
                stack: from_or_zero("stack of a sample", stack.at(row))?.map(StackId),
                state: state(states.at(row))?,
                trust: trust(trusts.at(row))?,
                reason: from_or_zero("reason", reason.at(row))?.map(StringId),
                weight_kind: weight_kind(kind.at(row))?,
                weight: weight.at(row),
            })
        })
        .collect()
}

pub(super) fn rss(from: &proto::RssSeries) -> Result<Vec<RssPoint>, InvalidValue> {
    let count = count("number of RSS points", from.count)?;
    let times = from.times.clone().unwrap_or_default();
    let process = Column::new("process of an RSS point", &from.process, count)?;
    let bytes = Column::new("resident bytes", &from.rss_bytes, count)?;
    unpack_times(&times, count)?
        .enumerate()
        .map(|(row, time_ns)| {
            Ok(RssPoint {
                time_ns: time_ns?,
                process: ProcessId(process.at(row)),
                rss_bytes: bytes.at(row),
            })
        })
        .collect()
}

fn state(bits: u32) -> Result<State, InvalidValue> {
    if bits > 0b1_1111 {
        return Err(invalid("state", bits));
    }
    Ok(State {
        running: bits & 1 != 0,
        holds_gil: bits & 2 != 0,
        waits_for_gil: bits & 4 != 0,
        known: bits & 8 != 0,
        sleeping: bits & 16 != 0,
    })
}

fn trust(stored: u32) -> Result<Trust, InvalidValue> {
    match stored {
        0 => Ok(Trust::Verified),
        1 => Ok(Trust::Unverified),
        _ => Err(invalid("trust", stored)),
    }
}

fn weight_kind(stored: u32) -> Result<WeightKind, InvalidValue> {
    match stored {
        0 => Ok(WeightKind::Samples),
        1 => Ok(WeightKind::Nanoseconds),
        2 => Ok(WeightKind::BytesGrown),
        3 => Ok(WeightKind::BytesKept),
        4 => Ok(WeightKind::BytesFile),
        _ => Err(invalid("kind of weight", stored)),
    }
}

pub(super) fn totals(totals: proto::Totals) -> Totals {
    let by_reason = |rows: Vec<proto::Lost>| {
        let rows = rows.into_iter();
        rows.map(|row| (row.reason, row.count)).collect()
    };
    Totals {
        duration_ns: totals.duration_ns,
        ticks: totals.ticks,
        missed_ticks: totals.missed_ticks,
        verified: totals.verified,
        unverified: totals.unverified,
        unverified_by: by_reason(totals.unverified_by),
        lost: by_reason(totals.lost),
        retries: totals.retries,
        read_calls: totals.read_calls,
        read_segments: totals.read_segments,
        read_bytes: totals.read_bytes,
        code_calls: totals.code_calls,
        code_bytes: totals.code_bytes,
        own_cpu_ns: totals.own_cpu_ns,
    }
}

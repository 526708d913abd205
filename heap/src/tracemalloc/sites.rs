//! What a snapshot says by line, by file, by traceback; and what changed between two.

use rustc_hash::FxHashMap;

use super::snapshot::{Frame, Snapshot};

/// What blocks are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// File and line of the newest frame.
    Line,
    /// File of the newest frame.
    File,
    /// The whole traceback.
    Traceback,
}

/// A place that blocks were allocated at: lines by file name, newest first. By file the line is
/// `None`; by line and by file there is one.
pub type Place = Vec<(String, Option<u32>)>;

/// A place and its live blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Where.
    pub place: Place,
    /// How many blocks.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A place in two snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub place: Place,
    /// Blocks before and after.
    pub count: [u64; 2],
    /// Bytes before and after.
    pub bytes: [u64; 2],
}

impl Change {
    /// Bytes gained, negative when lost.
    #[must_use]
    pub fn bytes_gained(&self) -> i64 {
        self.bytes[1].wrapping_sub(self.bytes[0]).cast_signed()
    }

    /// Blocks gained, negative when lost.
    #[must_use]
    pub fn count_gained(&self) -> i64 {
        self.count[1].wrapping_sub(self.count[0]).cast_signed()
    }
}

/// All sites of a snapshot, most bytes first. Of all domains.
#[must_use]
pub fn sites(snapshot: &Snapshot, by: By) -> Vec<Site> {
    let mut sums: FxHashMap<Place, (u64, u64)> = FxHashMap::default();
    for traces in &snapshot.traces {
        let Some(traceback) = snapshot.tracebacks.get(traces.traceback as usize) else {
            continue;
        };
        let shown = match by {
            By::Traceback => &traceback.frames[..],
            By::Line | By::File => &traceback.frames[..traceback.frames.len().min(1)],
        };
        let place = shown.iter().map(|frame| named(snapshot, *frame, by));
        let sum = sums.entry(place.collect()).or_default();
        sum.0 = sum.0.saturating_add(traces.count);
        sum.1 = sum.1.saturating_add(traces.bytes);
    }
    let mut sites: Vec<Site> = sums
        .into_iter()
        .map(|(place, (count, bytes))| Site {
            place,
            count,
            bytes,
        })
        .collect();
    sites.sort_unstable_by(|a, b| {
        let key = |site: &Site| (site.bytes, site.count);
        key(b).cmp(&key(a)).then_with(|| a.place.cmp(&b.place))
    });
    sites
}

/// What changed from `old` to `new`, the largest change first; what did not change is left out.
#[must_use]
pub fn diff(old: &Snapshot, new: &Snapshot, by: By) -> Vec<Change> {
    let mut changes: FxHashMap<Place, Change> = FxHashMap::default();
    for (which, snapshot) in [old, new].into_iter().enumerate() {
        for site in sites(snapshot, by) {
            let change = changes
                .entry(site.place)
                .or_insert_with_key(|place| Change {
                    place: place.clone(),
                    count: [0; 2],
                    bytes: [0; 2],
                });
            change.count[which] = site.count;
            change.bytes[which] = site.bytes;
        }
    }
    let mut changes: Vec<Change> = changes
        .into_values()
        .filter(|change| (change.bytes_gained(), change.count_gained()) != (0, 0))
        .collect();
    changes.sort_unstable_by(|a, b| {
        let key = |change: &Change| {
            let (bytes, count) = (change.bytes_gained(), change.count_gained());
            (bytes.unsigned_abs(), bytes, count.unsigned_abs(), count)
        };
        key(b).cmp(&key(a)).then_with(|| a.place.cmp(&b.place))
    });
    changes
}

fn named(snapshot: &Snapshot, frame: Frame, by: By) -> (String, Option<u32>) {
    let file = snapshot.files.get(frame.file as usize);
    let line = (by != By::File).then_some(frame.line);
    (file.cloned().unwrap_or_default(), line)
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{Traceback, Traces};
    use super::*;

    /// Domain, frames (file, line), blocks, bytes; files are `a.py`, `b.py`.
    type Row<'a> = (u32, &'a [(u32, u32)], u64, u64);

    fn snapshot(traces: &[Row<'_>]) -> Snapshot {
        let mut snapshot = Snapshot {
            max_frames: 2,
            files: vec!["a.py".into(), "b.py".into()],
            ..Snapshot::default()
        };
        for (domain, frames, count, bytes) in traces {
            let frames = frames.iter().map(|(file, line)| Frame {
                file: *file,
                line: *line,
            });
            snapshot.tracebacks.push(Traceback {
                frames: frames.collect(),
                total_frames: 2,
            });
            snapshot.traces.push(Traces {
                domain: *domain,
                traceback: snapshot.tracebacks.len() as u32 - 1,
                count: *count,
                bytes: *bytes,
            });
        }
        snapshot
    }

    fn place(lines: &[(&str, Option<u32>)]) -> Place {
        lines.iter().map(|(f, l)| ((*f).to_owned(), *l)).collect()
    }

    #[test]
    fn the_newest_frame_counts_and_domains_are_added_up() {
        let snapshot = snapshot(&[
            (0, &[(0, 1), (1, 9)], 2, 20),
            (7, &[(0, 1), (1, 8)], 1, 5),
            (0, &[(0, 2)], 1, 30),
        ]);
        let lines = sites(&snapshot, By::Line);
        assert_eq!(lines[0].place, place(&[("a.py", Some(2))]));
        assert_eq!((lines[1].count, lines[1].bytes), (3, 25));
        let files = sites(&snapshot, By::File);
        assert_eq!(files.len(), 1);
        assert_eq!((files[0].count, files[0].bytes), (4, 55));
        assert_eq!(files[0].place, place(&[("a.py", None)]));
        assert_eq!(sites(&snapshot, By::Traceback).len(), 3);
    }

    #[test]
    fn the_largest_change_is_first_and_none_is_left_out() {
        let old = snapshot(&[
            (0, &[(0, 1)], 1, 100),
            (0, &[(0, 2)], 1, 7),
            (0, &[(1, 3)], 1, 50),
        ]);
        let new = snapshot(&[(0, &[(0, 1)], 3, 130), (0, &[(0, 2)], 1, 7)]);
        let changes = diff(&old, &new, By::Line);
        let gained: Vec<_> = changes
            .iter()
            .map(|c| (c.bytes_gained(), c.count_gained()))
            .collect();
        assert_eq!(gained, [(-50, -1), (30, 2)]);
    }
}

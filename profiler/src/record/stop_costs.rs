//! How long threads were stopped.

/// Durations of stops; of very many, the first ones are kept.
#[derive(Debug, Default)]
pub(super) struct StopCosts {
    ns: Vec<u64>,
    count: u64,
    sum_ns: u64,
    longest_ns: u64,
}

/// So many are enough for a median.
const MOST: usize = 100_000;

impl StopCosts {
    /// Adds a stop.
    pub(super) fn add(&mut self, ns: u64) {
        self.count += 1;
        self.sum_ns += ns;
        self.longest_ns = self.longest_ns.max(ns);
        if self.ns.len() < MOST {
            self.ns.push(ns);
        }
    }

    /// A line about them; `None` when there were none.
    pub(super) fn said(&self) -> Option<String> {
        let mut sorted = self.ns.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2)?;
        let late = sorted.get(sorted.len() * 99 / 100)?;
        let micros = |ns: u64| ns as f64 / 1e3;
        Some(format!(
            "{} stops, each {:.1} µs (median; one in a hundred took {:.0} µs or more, the longest {:.1} ms), {:.1} ms in all",
            self.count,
            micros(*median),
            micros(*late),
            micros(self.longest_ns) / 1e3,
            micros(self.sum_ns) / 1e3,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_sum_are_told() {
        let mut costs = StopCosts::default();
        assert_eq!(costs.said(), None);
        (1..=200).for_each(|us| costs.add(us * 1000));
        let said = costs.said().expect("stops");
        assert!(said.contains("200 stops, each 101.0 µs"), "{said}");
        assert!(
            said.contains("took 199 µs or more, the longest 0.2 ms), 20.1 ms"),
            "{said}"
        );
    }
}

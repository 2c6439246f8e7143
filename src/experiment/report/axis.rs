//! The axes of charts: where values lie on them, and their ticks.

use super::text::{decimal, number, scientific, short};

/// An axis: where its values lie, and its ticks.
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that reaches over all `values`, with a margin on both sides: `margin` times their range.
    pub(super) fn new(values: &[f64], margin: f64, log: bool) -> Self {
        let log = log && values.iter().all(|&value| value > 0.0);
        let scaled = |value: &f64| if log { value.log10() } else { *value };
        let mut low = values.iter().map(scaled).fold(f64::INFINITY, f64::min);
        let mut high = values.iter().map(scaled).fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let positive = low >= 0.0 && !log;
        let size = if log { 1.0 } else { low.abs().max(high.abs()) };
        let margin = match high - low {
            range if range > 1e-6 * size => margin * range,
            _ if size > 0.0 => 0.1 * size,
            _ => 1.0,
        };
        low -= margin;
        high += margin;
        if positive {
            low = low.max(0.0);
        }
        Axis { low, high, log, ticks: if log { log_ticks(low, high) } else { linear_ticks(low, high) } }
    }

    /// Where a value lies: 0 at the low end, 1 at the high end.
    pub(super) fn position(&self, value: f64) -> f64 {
        let value = if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// A step of 1, 2 or 5 times a power of ten, and its multiples between `low` and `high`: four to nine of them.
fn round_numbers(low: f64, high: f64) -> (f64, Vec<f64>) {
    let least = (high - low) / 7.0;
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|&step| step >= least);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step - 1e-6).ceil() as i64, (high / step + 1e-6).floor() as i64);
    (step, (first..=last).map(|at| at as f64 * step).collect())
}

/// Ticks at round numbers between `low` and `high`.
fn linear_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let (step, values) = round_numbers(low, high);
    let largest = low.abs().max(high.abs());
    let plain = (1e-3..1e6).contains(&largest);
    let power = (step.log10() + 1e-6).floor() as i32;
    let label = |value: f64| match (plain, value) {
        (_, 0.0) => "0".into(),
        (true, _) => decimal(value, -power),
        (false, _) => scientific(value, value.abs().log10().floor() as i32 - power),
    };
    values.into_iter().map(|value| (value, label(value))).collect()
}

/// Ticks where `low` and `high` are decimal logarithms.
fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let decades = (low.ceil() as i32)..=(high.floor() as i32);
    let between = |value: &f64| (low..=high).contains(&value.log10());
    let values: Vec<f64> = match high - low {
        range if range < 1.0 => round_numbers(10f64.powf(low), 10f64.powf(high)).1,
        range if range < 4.0 => ((decades.start() - 1)..=*decades.end())
            .flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(power)))
            .collect(),
        range => decades.step_by((range / 7.0).ceil() as usize).map(|power| 10f64.powi(power)).collect(),
    };
    values.into_iter().filter(between).map(|value| (value, short(number(value)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        let labels = |low, high| linear_ticks(low, high).into_iter().map(|tick| tick.1).collect::<Vec<_>>();
        assert_eq!(labels(-0.1, 1.05), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(1.0, 2800.0), ["500", "1,000", "1,500", "2,000", "2,500"]);
    }
}

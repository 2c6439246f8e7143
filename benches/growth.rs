//! What data cost that grow or are large: appended rows, other data under a trainer, and peak memory.

use biv::base::options::parse;
use biv::data::{Dataset, Shared};
use biv::model::Model;
use biv::train::trainer::Trainer;
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Features in a row, as Bike Sharing's.
const WIDTH: usize = 19;

/// The numbers of rows `from..to`, which differ and have no pattern that matters.
fn arrays(from: usize, to: usize) -> (Vec<f32>, Vec<f64>, Vec<f64>) {
    let number = |at: usize| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 16_777_216.0;
    let x = (from * WIDTH..to * WIDTH).map(number).collect();
    let y = (from..to).map(|row| f64::from(number(row * WIDTH) + number(row * WIDTH + 1) * number(row)));
    let v = (from..to).map(|row| 0.01 + f64::from(number(row + 7)));
    (x, y.collect(), v.collect())
}

fn rows(from: usize, to: usize) -> Dataset {
    let (x, y, v) = arrays(from, to);
    Dataset::new(x, vec![WIDTH], y, 1, Some(v)).unwrap()
}

fn trainer(data: &Dataset) -> Trainer {
    let model = format!(r#"{{"kind":"mlp","inputs":{WIDTH},"hidden":[100,50,20,10]}}"#);
    let model = Model::new(&parse("model", &model).unwrap()).unwrap();
    Trainer::new(Arc::new(Mutex::new(model)), Some(data), &parse("trainer", "{}").unwrap()).unwrap()
}

fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64(), result)
}

/// 100,000 rows one by one behind a million, and what a trainer says to that.
fn append() {
    const BASE: usize = 1_000_000;
    const MORE: usize = 100_000;
    let new: Vec<Dataset> = (BASE..BASE + MORE).map(|row| rows(row, row + 1)).collect();
    let base = rows(0, BASE);
    let mut data = base.clone();
    let mut times: Vec<Duration> = new
        .iter()
        .map(|row| {
            let start = Instant::now();
            data = data.append(row).unwrap();
            start.elapsed()
        })
        .collect();
    let total: Duration = times.iter().sum();
    times.sort_unstable();
    let micro = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "append: {MORE} rows one by one to {BASE}: {:.2} us each; median {:.2}, 99 % {:.2}, longest {:.0}",
        micro(total) / MORE as f64,
        micro(times[MORE / 2]),
        micro(times[MORE * 99 / 100]),
        micro(times[MORE - 1]),
    );
    for size in [10_000, 100_000, 210_000, BASE] {
        let base = base.latest(size).unwrap();
        let mut trainer = trainer(&base);
        let grown = new[..1000].iter().fold(base, |data, row| data.append(row).unwrap());
        let (time, ()) = seconds(|| trainer.set_data(&grown).unwrap());
        println!("set_data: {size} rows that 1000 were appended to: {:.1} ms", time * 1e3);
    }
}

/// Steps on normalised data and on some that are a little larger, in turns.
fn step() {
    let (small, large) = (rows(0, 220_000), rows(0, 222_000));
    let mut trainers = [trainer(&small), trainer(&large)];
    let mut ratios: Vec<f64> = (0..9)
        .map(|_| {
            let times =
                trainers.each_mut().map(|trainer| seconds(|| (0..2000).for_each(|_| _ = trainer.step().unwrap())).0);
            println!("step: normalised {:.1} us, raw {:.1} us", times[0] / 2000.0 * 1e6, times[1] / 2000.0 * 1e6);
            times[1] / times[0]
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    println!("step: raw / normalised {:.3} ({:.3} to {:.3})", ratios[4], ratios[0], ratios[8]);
}

/// The peak of the process's memory in MiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// A trainer on ten million rows that the host lends.
fn memory() {
    const ROWS: usize = 10_000_000;
    let (x, y, v) = arrays(0, ROWS);
    let own = (x.len() * 4 + y.len() * 8 + v.len() * 8) as f64 / f64::from(1 << 20);
    let (x, y, v): (Shared<f32>, Shared<f64>, Shared<f64>) = (x.into(), y.into(), v.into());
    let say = |what: &str| {
        println!("memory: {what}: peak {:.0} MiB, {:.3} times the {own:.0} of the data", peak(), peak() / own)
    };
    say("the arrays");
    let (time, data) = seconds(|| Dataset::from_shared(x, vec![WIDTH], y, 1, Some(v)).unwrap());
    say(&format!("a data set, after {time:.1} s"));
    let (time, mut trainer) = seconds(|| trainer(&data));
    say(&format!("a trainer, after {time:.1} s"));
    let (time, _) = seconds(|| trainer.epoch(|_, _| ControlFlow::Continue(())).unwrap());
    say(&format!("an epoch, after {time:.1} s"));
    let grown = data.append(&rows(0, 1)).unwrap();
    let (time, ()) = seconds(|| trainer.set_data(&grown).unwrap());
    say(&format!("a row more under the trainer, after {time:.1} s"));
    for (what, data) in [("", &data), (" with the new row", &grown)] {
        let (time, _) = seconds(|| trainer.evaluate(data).unwrap());
        say(&format!("an evaluation{what}, after {time:.1} s"));
    }
}

fn main() {
    for part in std::env::args().skip(1) {
        match &*part {
            "append" => append(),
            "step" => step(),
            "memory" => memory(),
            _ => {}
        }
    }
}

//! A step of two threads against one of one thread, on processors that other programs use, too.

use biv::base::options::parse;
use biv::data::Dataset;
use biv::kernels::team::with_threads;
use biv::model::Model;
use biv::train::trainer::Trainer;
use parking_lot::Mutex;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one side works before the other has its turn.
const TURN: Duration = Duration::from_millis(500);

/// The network and the sizes of Bike Sharing, with random data.
fn trainer() -> Trainer {
    let number = |at: usize| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 16_777_216.0;
    let labels = (0..7000).map(|row| f64::from(number(row * 19) + number(row)));
    let variances = (0..7000).map(|row| 0.01 + f64::from(number(row + 7)));
    let features = (0..7000 * 19).map(number).collect();
    let data = Dataset::new(features, vec![19], labels.collect(), 1, Some(variances.collect())).unwrap();
    let model = Model::new(&parse("model", r#"{"kind":"mlp","inputs":19,"hidden":[100,50,20,10]}"#).unwrap()).unwrap();
    Trainer::new(Arc::new(Mutex::new(model)), Some(&data), &parse("trainer", "{}").unwrap()).unwrap()
}

/// The times of the steps of one turn, on `threads` threads, in microseconds.
fn turn(trainer: &mut Trainer, threads: usize, times: &mut Vec<f64>) {
    let start = Instant::now();
    with_threads(threads, || {
        while start.elapsed() < TURN {
            let step = Instant::now();
            trainer.step().unwrap();
            times.push(step.elapsed().as_secs_f64() * 1e6);
        }
    });
}

/// The median of `times`, their mean, and what 99 % of them are below.
fn summary(times: &mut [f64]) -> [f64; 3] {
    times.sort_unstable_by(f64::total_cmp);
    [times[times.len() / 2], times.iter().sum::<f64>() / times.len() as f64, times[times.len() * 99 / 100]]
}

/// A program that does nothing but count.
fn busy_loop() -> Child {
    Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()
}

fn main() {
    let number = |at, default| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seconds, threads) = (number(1, 20), 2);
    println!(
        "| busy loops | one thread: median, mean, 99 % | {threads} threads | ratio of the medians | of the means |"
    );
    println!("|---|---|---|---|---|");
    for loops in [0, 1, 2, 4] {
        let mut others: Vec<Child> = (0..loops).map(|_| busy_loop()).collect();
        let (mut one, mut two) = (trainer(), trainer());
        let mut times = [vec![], vec![]];
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) {
            turn(&mut one, 1, &mut times[0]);
            turn(&mut two, threads as usize, &mut times[1]);
        }
        for other in &mut others {
            other.kill().unwrap();
            other.wait().unwrap();
        }
        let [a, b] = times.each_mut().map(|times| summary(times));
        let three = |of: [f64; 3]| of.map(|value| format!("{value:.0}")).join(", ");
        println!("| {loops} | {} | {} | {:.2} | {:.2} |", three(a), three(b), b[0] / a[0], b[1] / a[1]);
    }
}

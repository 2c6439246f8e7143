//! Five networks as the members of one trainer, and of a fit, against five trainers one after the other: microseconds for
//! each network and step.
//!
//! On as many cores as `taskset` leaves; the variants take turns. On one core the time is the processor's, in which other
//! programs do not count.

use biv::base::options::parse;
use biv::data::Dataset;
use biv::data::SyntheticOptions;
use biv::data::noise::NoiseOptions;
use biv::kernels::team;
use biv::model::{Model, ModelOptions};
use biv::train::fit::{FitOptions, fit};
use biv::train::loss::smallest_epsilon;
use biv::train::trainer::Trainer;
use parking_lot::Mutex;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

const MEMBERS: usize = 5;

/// An epsilon is sought so often for one measurement.
const REPEATS: u32 = 20_000;

/// Each variant is measured so often.
const TURNS: usize = 25;

const EPSILONS: [(&str, &str); 2] =
    [("fixed epsilon", "0.1"), ("least EBS ratio", r#"{"min_effective_batch_ratio": 0.5}"#)];

struct Workload {
    name: &'static str,
    inputs: usize,
    hidden: &'static str,
    batch: usize,
    rows: usize,
    epochs: usize,
}

/// The time in seconds: on one core how long this thread had it, as the system tells, else the time of day.
fn now() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let thread = || std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse::<f64>().ok();
    let is_alone = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let thread = if is_alone { thread() } else { None };
    thread.map_or_else(|| START.elapsed().as_secs_f64(), |nanoseconds| nanoseconds * 1e-9)
}

/// How the steps are taken.
type Taking = fn(&Workload, &mut Trainer);

const WORKLOADS: [Workload; 2] = [
    Workload { name: "10-32-16-1, batch 64", inputs: 10, hidden: "[32, 16]", batch: 64, rows: 4096, epochs: 20 },
    Workload {
        name: "19-100-50-20-10-1, batch 256",
        inputs: 19,
        hidden: "[100, 50, 20, 10]",
        batch: 256,
        rows: 6912,
        epochs: 4,
    },
];

impl Workload {
    fn data(&self) -> Dataset {
        let synthetic = SyntheticOptions { rows: self.rows, features: self.inputs, outputs: 1, seed: 1 };
        let noise = r#"{"distribution": {"kind": "gamma", "mean": 1, "variance": 2}, "relative": true}"#;
        let noise: NoiseOptions = parse("noise", noise).unwrap();
        noise.apply(&Dataset::synthetic(&synthetic).unwrap()).unwrap()
    }

    fn network(&self, seed: usize) -> ModelOptions {
        let (inputs, hidden) = (self.inputs, self.hidden);
        parse("model", &format!(r#"{{"kind":"mlp","inputs":{inputs},"hidden":{hidden},"seed":{seed}}}"#)).unwrap()
    }

    fn trainer(&self, data: &Dataset, epsilon: &str, seed: usize, more: &str) -> Trainer {
        let model = Arc::new(Mutex::new(Model::new(&self.network(seed)).unwrap()));
        let loss = format!(r#"{{"kind":"biv","epsilon":{epsilon}}}"#);
        let options = format!(r#"{{"loss":{loss},"batch_size":{},"seed":{seed}{more}}}"#, self.batch);
        Trainer::new(model, Some(data), &parse("trainer", &options).unwrap()).unwrap()
    }

    fn epochs(&self, trainer: &mut Trainer) {
        for _ in 0..self.epochs {
            trainer.epoch(|_, _| ControlFlow::Continue(())).unwrap();
        }
    }

    fn steps(&self, trainer: &mut Trainer) {
        for _ in 0..self.epochs * (self.rows / self.batch) {
            trainer.step().unwrap();
        }
    }

    /// Microseconds for each network and step of `epochs` epochs of all.
    fn time(&self, trainers: &mut [Trainer], take: Taking) -> f64 {
        let start = now();
        trainers.iter_mut().for_each(|trainer| take(self, trainer));
        self.per_step(start, self.epochs * (self.rows / self.batch))
    }

    fn per_step(&self, start: f64, steps: usize) -> f64 {
        (now() - start) * 1e6 / (MEMBERS * steps) as f64
    }

    /// The same of a fit, with what it does after each epoch: residuals and their variance model.
    fn time_fit(&self, data: &Dataset, epsilon: &str) -> f64 {
        let loss = format!(r#"{{"kind":"biv","epsilon":{epsilon}}}"#);
        let options = format!(r#"{{"loss":{loss},"batch_size":{},"epochs":{}}}"#, self.batch, self.epochs);
        let options: FitOptions = parse("fit", &options).unwrap();
        let start = now();
        let mut total = 0;
        let watch = &mut |progress: &biv::train::fit::FitProgress| {
            total = progress.total_steps;
            ControlFlow::Continue(())
        };
        black_box(fit(&self.network(0), data, &options, watch).unwrap());
        (now() - start) * 1e6 / total as f64
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    team::limit_threads(cores);
    println!("{cores} cores; microseconds per network and step, medians of {TURNS} turns, ratios within a turn");
    for workload in WORKLOADS {
        let data = workload.data();
        for (rule, epsilon) in EPSILONS {
            let members = |more: &str| {
                let more = format!(r#","members":{MEMBERS}{more}"#);
                vec![workload.trainer(&data, epsilon, 0, &more)]
            };
            let alone: Vec<_> = (0..MEMBERS).map(|seed| workload.trainer(&data, epsilon, seed, "")).collect();
            let mut variants = [
                ("5 trainers in turn", Workload::epochs as Taking, alone),
                ("5 members", Workload::epochs, members("")),
                ("5 members, shared batches", Workload::epochs, members(r#","shared_batches":true"#)),
                ("the same, step by step", Workload::steps, members(r#","shared_batches":true"#)),
            ];
            let mut times = vec![vec![]; variants.len() + 1];
            for _ in 0..TURNS {
                for ((_, take, trainers), times) in variants.iter_mut().zip(&mut times) {
                    times.push(workload.time(trainers, *take));
                }
                times[variants.len()].push(workload.time_fit(&data, epsilon));
            }
            let names = variants.iter().map(|(name, ..)| *name).chain(["a fit of 5"]);
            for (name, variant) in names.zip(&times) {
                let ratios = times[0].iter().zip(variant).map(|(trainers, time)| trainers / time).collect();
                println!(
                    "{}, {rule}: {name}: {:.2} (fastest {:.2}), {:.2} times as fast",
                    workload.name,
                    median(variant.clone()),
                    variant.iter().copied().fold(f64::INFINITY, f64::min),
                    median(ratios)
                );
            }
        }
    }
    for rows in [64, 256] {
        let variances: Vec<f64> = (1..=rows).map(|row| f64::from((row * 7919) % 997) / 997.0).collect();
        let once = || {
            let start = now();
            for _ in 0..REPEATS {
                black_box(smallest_epsilon(black_box(&variances), 0.5 * f64::from(rows)));
            }
            (now() - start) * 1e6 / f64::from(REPEATS)
        };
        println!("an epsilon for {rows} rows: {:.2}", median((0..TURNS).map(|_| once()).collect()));
    }
}

//! Training by several real processes on loopback: what they compute together is what one computes alone.
//!
//! A rank is this program again, with the one test `a_rank_in_training` and its jobs in a file.

use crate::common::{biv, model};
use biv::base::options::from_value;
use biv::data::array::ArrayView;
use biv::data::{ArrayOptions, Dataset};
use biv::train::checkpoint::LoadOptions;
use biv::train::trainer::{StepReport, Trainer, TrainerOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The variable that names the file of a process's jobs.
const JOBS: &str = "BIV_TEST_JOBS";

/// What a process trains.
#[derive(Clone, Serialize, Deserialize)]
struct Job {
    model: Value,
    /// The trainer's; `distributed` as each rank gets it in the end, or none.
    options: Value,
    /// The number of the data set.
    data: u64,
    /// How many of its rows each rank is given, where they are not all of them.
    parts: Vec<usize>,
    /// Whether the steps are on all rows that the process has, as it brings them.
    brings: bool,
    /// How many in all, those before the checkpoint too.
    steps: usize,
    /// A checkpoint to go on from.
    load: Option<String>,
    /// A checkpoint to write.
    save: Option<String>,
    /// What is to go wrong after as many steps.
    fault: Option<(usize, Fault)>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Fault {
    /// The process ends at once.
    Abort,
    /// It goes on with another learning rate.
    Rate,
    /// It takes steps on other rows than the rest of the epoch.
    Rows,
    /// It asks for an end.
    Stop,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Outcome {
    losses: Vec<f64>,
    sizes: Vec<f64>,
    /// As bits: it may be infinite.
    epsilons: Vec<u64>,
    /// All of the model's tensors.
    weights: Vec<f32>,
    error: Option<String>,
    /// The same of another step after that.
    next: Option<String>,
}

impl Outcome {
    /// Adds a step, and says how many there are.
    fn note(&mut self, step: &StepReport) -> usize {
        self.losses.push(step.loss);
        self.sizes.push(step.effective_batch_size);
        self.epsilons.push(step.epsilon.to_bits());
        self.sizes.len()
    }
}

/// The set of numbers [`data`] of 1, as images.
const IMAGES: u64 = 3;
/// The same with names.
const NAMED: u64 = 4;
/// The same with another name.
const RENAMED: u64 = 5;
/// The same with a value that no network can take.
const OUT_OF_RANGE: u64 = 6;

/// The data set of this number.
fn numbered(number: u64) -> Dataset {
    let all = data(if (IMAGES..=OUT_OF_RANGE).contains(&number) { 1 } else { number });
    let mut features = all.feature_values().unwrap().into_owned();
    let (labels, variances) = (all.labels().to_vec(), all.variances().map(<[f64]>::to_vec));
    match number {
        IMAGES => Dataset::new(features, vec![1, 2, 3], labels, 2, variances).unwrap(),
        NAMED | RENAMED => {
            let last = if number == NAMED { "weight" } else { "width" };
            let columns = ["a", "b", "c", "d", "e", last].map(String::from).to_vec();
            let options = ArrayOptions { columns, ..ArrayOptions::default() };
            let view = |values| ArrayView::f64(values, &[203, 2]).unwrap();
            let features = ArrayView::f32(&features, &[203, 6]).unwrap();
            let variances = variances.as_deref().map(view);
            Dataset::from_arrays_with(&features, &view(&labels), variances.as_ref(), None, &options).unwrap()
        }
        OUT_OF_RANGE => {
            features[6 * 150 + 2] = 1e25;
            Dataset::new(features, vec![6], labels, 2, variances).unwrap()
        }
        _ => all,
    }
}

/// 203 rows of six features and two labels whose variances span four decades.
pub fn data(seed: u64) -> Dataset {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut features, mut labels, mut variances) = (vec![], vec![], vec![]);
    for _ in 0..203 {
        let row: Vec<f64> = (0..6).map(|_| 2.0 * uniform() - 1.0).collect();
        for output in 0..2 {
            let variance = 10f64.powf(4.0 * uniform() - 3.0);
            labels.push((3.0 * row[output]).sin() + row[4] * row[5] + variance.sqrt() * (uniform() - 0.5));
            variances.push(variance);
        }
        features.extend(row.iter().map(|&x| x as f32));
    }
    Dataset::new(features, vec![6], labels, 2, Some(variances)).unwrap()
}

/// As many steps as `job` says, or all up to the first error.
fn train(job: &Job) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = attempt(job, &mut outcome) {
        outcome.error = Some(error.to_string());
    }
    outcome
}

fn attempt(job: &Job, outcome: &mut Outcome) -> biv::Result<()> {
    let own = |data: Dataset| {
        let Some(rank) = job.options["distributed"]["rank"].as_u64().filter(|_| !job.parts.is_empty()) else {
            return data;
        };
        let first = job.parts[..rank as usize].iter().sum();
        data.subset(&(first..first + job.parts[rank as usize]).collect::<Vec<_>>()).unwrap()
    };
    let data = own(numbered(job.data));
    let given = Some(&data).filter(|_| !job.brings);
    let mut trainer = match &job.load {
        None => {
            let options: TrainerOptions = from_value("trainer", &job.options)?;
            Trainer::new(model(&job.model.to_string()), given, &options)?
        }
        Some(path) => {
            let options: LoadOptions = from_value("load", &json!({"distributed": job.options["distributed"].clone()}))?;
            Trainer::load_with(Path::new(path), Some(&data), &options)?
        }
    };
    let mut trained = Ok(());
    if job.options["loss"]["epsilon"] == "auto" {
        trainer.set_validation(Arc::new(own(self::data(9))))?;
    }
    while trained.is_ok() && trainer.steps() < job.steps as u64 {
        if matches!(job.fault, Some((_, Fault::Stop))) || job.options["loss"]["epsilon"] == "auto" {
            let stop = |_: &Trainer, step: &StepReport| {
                let is_due = Some(outcome.note(step)) == job.fault.map(|(steps, _)| steps);
                if is_due { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let epoch = trainer.epoch(stop);
            trained = epoch.map(|report| outcome.losses.extend(report.validation.map(|shown| shown.loss)));
            continue;
        }
        if job.fault == Some((trainer.steps() as usize, Fault::Abort)) {
            std::process::abort();
        } else if job.fault == Some((trainer.steps() as usize, Fault::Rate)) {
            trainer.set_learning_rate(0.5)?;
        } else if job.fault == Some((trainer.steps() as usize, Fault::Rows)) {
            trained = trainer.step_on(&self::data(2)).map(drop);
            continue;
        }
        let step = if job.brings { trainer.step_on(&data) } else { trainer.step() };
        trained = step.map(|step| outcome.note(&step)).map(|_| ());
    }
    if trained.is_err() {
        outcome.next = trainer.step().err().map(|error| error.to_string());
        trainer.predict(&data)?;
    }
    if let Some(path) = &job.save {
        trainer.save(Path::new(path))?;
    }
    let model = trainer.model().lock();
    for tensor in model.tensors() {
        outcome.weights.extend(model.tensor(&tensor.name)?.to_f32()?);
    }
    trained
}

/// A rank of another test's jobs; nothing by itself.
#[test]
fn a_rank_in_training() {
    do_jobs(train);
}

/// `jobs`, each by `size` processes. `change` makes a rank's own job of one. Returns the outcomes of each rank; none of
/// one that was to end.
fn by_ranks(size: usize, jobs: &[Job], change: impl Fn(usize, &mut Job)) -> Vec<Vec<Outcome>> {
    jobs_by_ranks("distributed::a_rank_in_training", size, jobs, |job| &mut job.options, change)
}

/// Does what [`processes`] has put before this process, each job by `attempt`; nothing in a process that it has not begun.
pub fn do_jobs<J: DeserializeOwned, O: Serialize>(attempt: impl Fn(&J) -> O) {
    let Some(path) = std::env::var_os(JOBS) else { return };
    let jobs: Vec<J> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let outcomes: Vec<O> = jobs.iter().map(attempt).collect();
    std::fs::write(path, serde_json::to_vec(&outcomes).unwrap()).unwrap();
}

/// `jobs`, each by `size` processes that run `test`, at a port of its own in its `options`. `change` makes a rank's own job
/// of one. As [`processes`].
pub fn jobs_by_ranks<J: Clone + Serialize, O: DeserializeOwned>(
    test: &str,
    size: usize,
    jobs: &[J],
    options: impl Fn(&mut J) -> &mut Value,
    change: impl Fn(usize, &mut J),
) -> Vec<Vec<O>> {
    let ports = free_ports(jobs.len());
    let own = |rank: usize| {
        let own = jobs.iter().zip(&ports).map(|(job, &port)| {
            let mut job = job.clone();
            let distributed = &mut options(&mut job)["distributed"];
            let given = distributed.as_object().cloned().unwrap_or_default();
            *distributed = place(rank, size, port);
            distributed.as_object_mut().unwrap().extend(given);
            change(rank, &mut job);
            job
        });
        own.collect()
    };
    processes(test, &(0..size).map(own).collect::<Vec<Vec<J>>>())
}

/// As many ports, no two of them the same: the listeners are dropped together.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// The option `distributed` of a rank.
fn place(rank: usize, size: usize, port: u16) -> Value {
    json!({"rank": rank, "world_size": size, "address": "127.0.0.1", "port": port, "timeout_seconds": 60})
}

/// For each of `jobs`, a process that runs `test`: it finds them in the file that [`JOBS`] names, and leaves their outcomes
/// there; none of a process that was to end.
pub fn processes<J: Serialize, O: DeserializeOwned>(test: &str, jobs: &[Vec<J>]) -> Vec<Vec<O>> {
    let folder = tempfile::tempdir().unwrap();
    let children = jobs.iter().enumerate().map(|(rank, jobs)| {
        let path = folder.path().join(format!("{rank}.json"));
        std::fs::write(&path, serde_json::to_vec(jobs).unwrap()).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(JOBS, &path)
            .env("OMP_NUM_THREADS", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        (child, path)
    });
    let outcomes = children.collect::<Vec<_>>().into_iter().map(|(child, path)| {
        let output = child.wait_with_output().unwrap();
        if output.status.code().is_none() {
            return vec![];
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    });
    outcomes.collect()
}

fn job(model: Value, options: Value) -> Job {
    Job { model, options, data: 1, parts: vec![], brings: false, steps: 50, load: None, save: None, fault: None }
}

pub fn mlp() -> Value {
    json!({"kind": "mlp", "inputs": 6, "outputs": 2, "hidden": [32, 16]})
}

/// With dropout and BatchNorm.
pub fn noisy_network() -> Value {
    json!({"kind": "sequential", "input_shape": [6], "layers": [
        {"kind": "linear", "outputs": 24, "bias": false}, {"kind": "batch_norm"}, {"kind": "activation", "function": "relu"},
        {"kind": "dropout", "p": 0.2}, {"kind": "linear", "outputs": 2}]})
}

/// How far `found` is from `expected`, of whose length that is.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    assert_eq!(found.len(), expected.len());
    length(&mut found.iter().zip(expected).map(|(a, b)| f64::from(a - b)))
        / length(&mut expected.iter().map(|&value| f64::from(value)))
}

#[test]
fn several_processes_train_as_one() {
    let sgd = json!({"kind": "sgd", "momentum": 0.9});
    let jobs = [
        // Ragged shares.
        job(mlp(), json!({"batch_size": 50, "loss": {"kind": "biv", "epsilon": 0.1}})),
        job(mlp(), json!({"batch_size": 37, "loss": {"kind": "biv", "epsilon": {"min_effective_batch_ratio": 0.4}}})),
        // Most shares have no label that counts.
        job(mlp(), json!({"batch_size": 10, "loss": {"kind": "cutoff_mse", "threshold": 0.002}})),
        // More processes than rows.
        job(mlp(), json!({"batch_size": 3, "loss": {"kind": "iv", "epsilon": 0.1}, "learning_rate": 1e-4})),
        job(
            json!({"kind": "mean_variance", "network": mlp()}),
            json!({"batch_size": 41, "loss": {"kind": "beta_nll"}, "optimizer": sgd, "clip_norm": 0.3, "learning_rate": 0.01}),
        ),
        job(
            noisy_network(),
            json!({"batch_size": 43, "optimizer": sgd, "learning_rate": 0.01, "distributed": {"batch_norm": "synchronised"}}),
        ),
    ];
    let alone = jobs.clone().map(|mut job| {
        job.options.as_object_mut().unwrap().remove("distributed");
        train(&job)
    });
    for size in [2, 4] {
        assert_near(&by_ranks(size, &jobs, |_, _| {}), &alone);
    }
}

/// An error unless all `ranks` have the same outcome of each job, and nearly that of a process `alone`.
fn assert_near(ranks: &[Vec<Outcome>], alone: &[Outcome]) {
    let size = ranks.len();
    for (number, alone) in alone.iter().enumerate() {
        assert_eq!(alone.error, None);
        let found = &ranks[0][number];
        assert_eq!(found.error, None, "job {number}, {size} ranks");
        assert!(ranks.iter().all(|rank| rank[number] == *found), "job {number}: the ranks differ");
        for step in 0..alone.losses.len() {
            let is_near =
                |found: f64, expected: f64, tolerance: f64| (found - expected).abs() <= tolerance * expected.abs();
            let (loss, own) = (found.losses[step], alone.losses[step]);
            assert!(is_near(loss, own, 1e-4), "job {number}, {size} ranks, step {step}: {loss}, {own}");
            assert!(
                is_near(found.sizes[step], alone.sizes[step], 1e-9) && found.epsilons[step] == alone.epsilons[step]
            );
        }
        let distance = distance(&found.weights, &alone.weights);
        assert!(distance < 1e-5, "job {number}, {size} ranks: {distance}");
    }
}

/// How the rows are divided among so many ranks that hold their own.
fn ragged(size: usize) -> Vec<usize> {
    match size {
        2 => vec![1, 202],
        _ => vec![60, 1, 130, 12],
    }
}

/// A convolution before a BatchNorm, for [`IMAGES`].
fn image_network() -> Value {
    json!({"kind": "sequential", "input_shape": [1, 2, 3], "layers": [
        {"kind": "conv2d", "outputs": 4, "size": 2, "padding": 1}, {"kind": "batch_norm"},
        {"kind": "activation", "function": "relu"}, {"kind": "flatten"}, {"kind": "linear", "outputs": 2}]})
}

#[test]
fn ranks_with_rows_of_their_own_train_as_one_process_with_all() {
    let sgd = json!({"kind": "sgd", "momentum": 0.9});
    let synchronised = json!({"batch_norm": "synchronised"});
    let jobs = [
        // Most mini-batches have no row of the rank that holds one.
        job(mlp(), json!({"batch_size": 50, "loss": {"kind": "biv", "epsilon": 0.1}})),
        job(mlp(), json!({"batch_size": 37, "loss": {"kind": "biv", "epsilon": {"min_effective_batch_ratio": 0.4}}})),
        // Most ranks have no label that counts.
        job(
            mlp(),
            json!({"batch_size": 10, "loss": {"kind": "cutoff_mse", "threshold": 0.002}, "distributed": synchronised}),
        ),
        job(
            json!({"kind": "mean_variance", "network": mlp()}),
            json!({"batch_size": 41, "loss": {"kind": "beta_nll"}, "optimizer": sgd, "clip_norm": 0.3, "learning_rate": 0.01}),
        ),
        job(
            noisy_network(),
            json!({"batch_size": 43, "optimizer": sgd, "learning_rate": 0.01, "distributed": synchronised}),
        ),
        Job {
            data: IMAGES,
            ..job(
                image_network(),
                json!({"batch_size": 20, "optimizer": sgd, "learning_rate": 0.01, "distributed": synchronised}),
            )
        },
        // The effective batch size of rows that are brought.
        Job {
            brings: true,
            steps: 5,
            ..job(
                mlp(),
                json!({"normalize": false, "loss": {"kind": "biv", "epsilon": {"min_effective_batch_ratio": 0.4}}}),
            )
        },
    ];
    let alone = jobs.clone().map(|mut job| {
        job.options.as_object_mut().unwrap().remove("distributed");
        train(&job)
    });
    for size in [2, 4] {
        let divide = |_: usize, job: &mut Job| {
            job.parts = ragged(size);
            job.options["distributed"]["rows"] = json!("own");
        };
        assert_near(&by_ranks(size, &jobs, divide), &alone);
    }
}

#[test]
fn rows_that_are_divided_in_another_way_are_the_same_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, rank: usize| folder.path().join(format!("{name}{rank}.biv")).display().to_string();
    let whole = job(mlp(), json!({"batch_size": 50}));
    let expected = train(&whole);
    let own = |size: usize, rows: &str, job: &mut Job| {
        job.options["distributed"]["rows"] = json!(rows);
        job.parts = if rows == "own" { ragged(size) } else { vec![] };
    };
    let after = |steps: usize| Job { steps, ..whole.clone() };
    let files = |name: &str, size: usize| {
        let files: Vec<_> = (0..size).map(|rank| std::fs::read(path(name, rank)).unwrap()).collect();
        assert!(files.iter().all(|file| *file == files[0]), "a checkpoint does not depend on the rank");
    };
    // All rows, then four parts, then two, then all rows again.
    by_ranks(2, &[after(11)], |rank, job| job.save = Some(path("a", rank)));
    by_ranks(4, &[after(23)], |rank, job| {
        own(4, "own", job);
        (job.load, job.save) = (Some(path("a", 0)), Some(path("b", rank)));
    });
    files("b", 4);
    by_ranks(2, &[after(37)], |rank, job| {
        own(2, "own", job);
        (job.load, job.save) = (Some(path("b", 3)), Some(path("c", rank)));
    });
    files("c", 2);
    for rank in by_ranks(2, &[after(50)], |_, job| {
        own(2, "all", job);
        job.load = Some(path("c", 1));
    }) {
        assert_eq!((&rank[0].error, rank[0].losses.len()), (&None, 13));
        assert!(distance(&rank[0].weights, &expected.weights) < 1e-5);
    }
    for rank in by_ranks(2, &[Job { data: 2, ..after(50) }], |_, job| {
        own(2, "own", job);
        job.load = Some(path("b", 0));
    }) {
        let error = rank[0].error.as_deref().unwrap_or_default();
        assert!(error.ends_with("its features, labels and variances are others"), "{error}");
    }
}

#[test]
fn ranks_whose_own_rows_do_not_fit_each_other_are_named() {
    let named =
        |data: u64| Job { data, steps: 4, ..job(mlp(), json!({"batch_size": 50, "distributed": {"rows": "own"}})) };
    let mut normed = job(noisy_network(), json!({"distributed": {"rows": "own"}}));
    normed.steps = 1;
    let far = Job {
        data: OUT_OF_RANGE,
        ..job(mlp(), json!({"batch_size": 203, "normalize": false, "distributed": {"rows": "own"}}))
    };
    let jobs = [named(NAMED), named(NAMED), named(IMAGES), normed, far];
    let ranks = by_ranks(2, &jobs, |rank, job| {
        job.parts = vec![100, 103];
        match job.data {
            NAMED if rank == 1 => job.data = RENAMED,
            IMAGES if rank == 1 => job.data = 1,
            _ => {}
        }
    });
    let error = |rank: usize, number: usize| ranks[rank][number].error.clone().unwrap_or_default();
    let names = "the columns of the training data (rank 0: a, b, c, d, e, weight; rank 1: a, b, c, d, e, width)";
    let shapes = "the shape of a row of the training data (rank 0: [1, 2, 3]; rank 1: [6])";
    for rank in 0..2 {
        assert!(error(rank, 0).contains(names), "{}", error(rank, 0));
        assert!(error(rank, 2).contains(shapes), "{}", error(rank, 2));
        assert!(error(rank, 3).contains("trainer.distributed.batch_norm: is 'local'"), "{}", error(rank, 3));
    }
    let fault = "row 50, label 0: makes the loss of step 1 inf: ";
    assert!(error(1, 4).starts_with(fault), "{}", error(1, 4));
    assert!(error(0, 4).starts_with(&format!("rank 1: {fault}")), "{}", error(0, 4));
}

#[test]
fn a_deterministic_sum_has_the_same_bits_for_any_number_of_processes() {
    let distributed = json!({"deterministic": true, "shares": 6});
    let jobs = [
        job(mlp(), json!({"batch_size": 50, "distributed": distributed})),
        job(noisy_network(), json!({"batch_size": 43, "clip_norm": 0.5, "distributed": distributed})),
    ];
    let one = by_ranks(1, &jobs, |_, _| {}).swap_remove(0);
    assert!(one.iter().all(|outcome| outcome.error.is_none() && outcome.losses[49] < outcome.losses[0]), "{one:?}");
    for size in [2, 3, 4] {
        for (rank, found) in by_ranks(size, &jobs, |_, _| {}).into_iter().enumerate() {
            assert_eq!(found, one, "rank {rank} of {size}");
        }
    }
}

/// In the first step all shares have the same weights, so that behind a linear layer the means of
/// the shares, weighted by their rows, are the mean of the mini-batch.
#[test]
fn running_means_are_weighted_by_the_rows_of_shares_that_differ() {
    let running_means = |options: Value| {
        let network = json!({"kind": "mlp", "inputs": 6, "outputs": 2, "hidden": [16], "batch_norm": true});
        let options: TrainerOptions = from_value("trainer", &options).unwrap();
        let mut trainer = Trainer::new(model(&network.to_string()), Some(&data(1)), &options).unwrap();
        trainer.step().unwrap();
        let model = trainer.model().lock();
        let name = model.tensors().into_iter().find(|tensor| tensor.name.ends_with("running_mean")).unwrap().name;
        model.tensor(&name).unwrap().to_f32().unwrap()
    };
    let expected = running_means(json!({"batch_size": 50}));
    let ranks = json!({"rank": 0, "world_size": 1, "deterministic": true, "shares": 7});
    let found = running_means(json!({"batch_size": 50, "distributed": ranks}));
    assert!(distance(&found, &expected) < 1e-5, "{found:?} {expected:?}");
}

#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |rank: usize| folder.path().join(format!("{rank}.biv")).display().to_string();
    let whole = job(mlp(), json!({"batch_size": 50, "distributed": {"deterministic": true}}));
    let expected = by_ranks(1, std::slice::from_ref(&whole), |_, _| {}).swap_remove(0).swap_remove(0);
    let first = Job { steps: 21, ..whole.clone() };
    by_ranks(4, &[first], |rank, job| job.save = Some(path(rank)));
    let files: Vec<Vec<u8>> = (0..4).map(|rank| std::fs::read(path(rank)).unwrap()).collect();
    assert!(files.iter().all(|file| *file == files[0]), "a checkpoint does not depend on the rank");
    let rest = whole;
    for rank in by_ranks(2, &[rest], |rank, job| job.load = Some(path(rank))) {
        assert_eq!((&rank[0].error, &rank[0].losses[..]), (&None, &expected.losses[21..]));
        assert_eq!(rank[0].weights, expected.weights);
    }
}

#[test]
fn a_rank_that_differs_is_named_with_what_differs() {
    let same = job(mlp(), json!({"batch_size": 50}));
    let jobs = vec![same; 5];
    let number = std::sync::atomic::AtomicUsize::new(0);
    let change = |rank: usize, job: &mut Job| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 5;
        match number {
            _ if rank != 1 => {}
            0 => job.options["batch_size"] = json!(60),
            1 => job.data = 2,
            2 => job.model["seed"] = json!(7),
            3 => job.model["hidden"] = json!([16, 32]),
            _ => job.options["batch_size"] = json!(500),
        }
    };
    let ranks = by_ranks(3, &jobs, change);
    let errors: Vec<&str> = ranks[0].iter().map(|outcome| outcome.error.as_deref().unwrap_or_default()).collect();
    assert_eq!(errors[0], "the ranks differ in trainer.batch_size (ranks 0, 2: 50; rank 1: 60)");
    assert!(errors[1].starts_with("the ranks differ in the training data.features (ranks 0, 2: "), "{}", errors[1]);
    assert!(errors[1].contains("the training data.labels"), "{}", errors[1]);
    assert!(
        errors[2].starts_with("the ranks differ in model.seed (ranks 0, 2: 0; rank 1: 7), and in the model's weights"),
        "{}",
        errors[2]
    );
    assert!(errors[3].contains("model.hidden (ranks 0, 2: [32,16]; rank 1: [16,32])"), "{}", errors[3]);
    assert!(errors[4].starts_with("rank 1: batch_size 500 is more than the 203 training rows"), "{}", errors[4]);
    let own = ranks[1][4].error.as_deref().unwrap_or_default();
    assert!(own.starts_with("batch_size 500 is more"), "{own}");
    assert_eq!(ranks[0], ranks[2]);
    assert_eq!(ranks[0][..4], ranks[1][..4]);
}

#[test]
fn an_error_of_one_rank_is_known_to_all_and_leaves_them_usable() {
    let steps = |count: usize| Job { steps: count, ..job(mlp(), json!({"batch_size": 20})) };
    let expected = by_ranks(3, &[steps(4), steps(5), steps(6)], |_, _| {}).swap_remove(0);
    let with = |fault: Fault| {
        by_ranks(3, &[steps(9)], |rank, job| {
            job.fault = match (fault, rank) {
                // Nobody else asks for it, but all go by epochs.
                (Fault::Stop, 0) => Some((usize::MAX, fault)),
                (Fault::Stop, _) | (_, 1) => Some((4, fault)),
                _ => None,
            }
        })
    };
    let [first, ended, third] = &with(Fault::Abort)[..] else { panic!() };
    assert!(ended.is_empty());
    let error = first[0].error.as_deref().unwrap_or_default();
    assert!(error.contains("rank 1 does not answer: it has ended or is stopped"), "{error}");
    assert_eq!((&first[0], first[0].next.as_deref()), (&third[0], Some(error)));
    // No rank has moved in the step that failed.
    assert_eq!(first[0].weights, expected[0].weights);

    for (fault, what, last) in [
        (Fault::Rate, "the learning rate (ranks 0, 2: 0.001; rank 1: 0.5)", 0),
        // In the next step they are at one again.
        (Fault::Rows, "the mini-batch's rows (ranks 0, 2: ", 1),
    ] {
        for rank in with(fault) {
            let error = rank[0].error.as_deref().unwrap_or_default();
            assert!(error.starts_with("the ranks differ in ") && error.contains(what), "{error}");
            assert_eq!(rank[0].weights, expected[last].weights);
        }
    }
    // All stop after the same step, the one after that in which some asked for it. Then all take one more.
    for rank in with(Fault::Stop) {
        assert_eq!(rank[0].error.as_deref(), Some("training was cancelled in epoch 1"));
        assert_eq!(rank[0].weights, expected[2].weights);
    }
}

#[test]
fn an_epsilon_that_residuals_say_is_the_same_on_all_ranks() {
    let auto = Job { steps: 20, ..job(mlp(), json!({"batch_size": 50, "loss": {"kind": "biv", "epsilon": "auto"}})) };
    let alone = train(&auto);
    assert_eq!(alone.error, None);
    for rows in ["all", "own"] {
        let divide = |_: usize, job: &mut Job| {
            job.parts = if rows == "own" { ragged(2) } else { vec![] };
            job.options["distributed"]["rows"] = json!(rows);
        };
        let [first, second] = <[_; 2]>::try_from(by_ranks(2, std::slice::from_ref(&auto), divide)).unwrap();
        assert_eq!(first, second);
        assert!(first[0].error.is_none() && distance(&first[0].weights, &alone.weights) < 1e-4, "{first:?}");
    }
}

#[test]
fn a_run_of_several_processes_is_written_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = |out: &str, size: usize, epochs: &str| {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let arguments =
            ["--experiment_settings", "two,1,synthetic,True,300", "--model_settings", "vanilla_ann,biv,0.5"];
        let noise = ["--noise_settings", "True,uniform", "--params_settings", "boundaries", "--parameters", "0,1"];
        let size_text = size.to_string();
        let children = (0..size).map(|rank| {
            let mut command = biv(&["run"]);
            command.args(arguments).args(noise).args(["--set", "batch_size=100", "--epochs", epochs, "--resume"]);
            command.arg("--out").arg(folder.path().join(out)).args(["--threads", "1"]);
            if size > 2 {
                command.args(["--set", "distributed.timeout_seconds=60"]);
            }
            let place = [
                ("RANK", &*rank.to_string()),
                ("WORLD_SIZE", &size_text),
                ("MASTER_ADDR", "127.0.0.1"),
                ("MASTER_PORT", &port),
            ];
            command.envs(place).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        });
        let outputs = children.collect::<Vec<_>>().into_iter().map(|child| child.wait_with_output().unwrap());
        let outputs: Vec<_> = outputs.collect();
        for (rank, output) in outputs.iter().enumerate() {
            assert!(output.status.success(), "rank {rank}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.stdout.is_empty() && output.stderr.is_empty(), rank > 0);
        }
        let result = std::fs::read(folder.path().join(out).join("result.json")).unwrap();
        serde_json::from_slice::<Value>(&result).unwrap()
    };
    let alone = run("alone", 1, "4");
    run("together", 2, "2");
    // It goes on with another number of processes.
    let together = run("together", 3, "4");
    for field in ["/last/rmse", "/best/rmse", "/effective_batch_size"] {
        let value = |result: &Value| result.pointer(field).and_then(Value::as_f64).unwrap();
        let (found, expected) = (value(&together), value(&alone));
        assert!((found - expected).abs() < 1e-4 * expected, "{field}: {found}, {expected}");
    }
    assert!(folder.path().join("together/report.html").exists());
}

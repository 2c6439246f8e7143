//! A fit by several real processes on loopback: on all of them the model and the report of one process, bit for bit.
//!
//! A process is this program again, with the one test `a_rank_in_a_fit` and its jobs in a file.

use crate::common::{biv, stdout};
use crate::distributed::{data, do_jobs, free_ports, jobs_by_ranks, mlp, noisy_network, processes};
use biv::base::options::from_value;
use biv::model::ModelOptions;
use biv::train::fit::{FitOptions, FitProgress, fit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Stdio;

const RANK: &str = "shared_fits::a_rank_in_a_fit";

/// What a process fits.
#[derive(Clone, Serialize, Deserialize)]
struct Job {
    model: Value,
    options: Value,
    /// What is to happen when so many epochs are complete; of the final network, where there is one.
    event: Option<(u64, Event)>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Event {
    /// The callback asks for an end.
    Stop,
    /// The process ends at once.
    Abort,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Outcome {
    report: Value,
    model: Vec<u8>,
    error: Option<String>,
    /// The parts of the work that the callback heard of.
    heard: Vec<f64>,
}

fn attempt(job: &Job) -> Outcome {
    let mut heard = vec![];
    let network: ModelOptions = from_value("model", &job.model).unwrap();
    let options: FitOptions = from_value("fit", &job.options).unwrap();
    let fitted = fit(&network, &data(1), &options, &mut |progress: &FitProgress| {
        heard.push(progress.steps as f64 / progress.total_steps as f64);
        let is_due = progress.is_final == (options.members == 1);
        match job.event {
            Some((epoch, Event::Stop)) if is_due && progress.epoch == epoch => ControlFlow::Break(()),
            Some((epoch, Event::Abort)) if is_due && progress.epoch == epoch => std::process::abort(),
            _ => ControlFlow::Continue(()),
        }
    });
    match fitted {
        Ok((model, report)) => {
            let report = serde_json::to_value(report).unwrap();
            Outcome { report, model: model.to_bytes().unwrap(), error: None, heard }
        }
        Err(error) => Outcome { error: Some(error.to_string()), heard, ..Outcome::default() },
    }
}

/// A rank of another test's jobs; nothing by itself.
#[test]
fn a_rank_in_a_fit() {
    do_jobs(attempt);
}

/// `jobs`, each by `size` processes. `change` makes a rank's own job of one.
fn by_ranks(size: usize, jobs: &[Job], change: impl Fn(usize, &mut Job)) -> Vec<Vec<Outcome>> {
    jobs_by_ranks(RANK, size, jobs, |job| &mut job.options, change)
}

fn job(model: Value, options: Value) -> Job {
    Job { model, options, event: None }
}

/// An error unless `found` is what one process has found.
fn assert_same(found: &Outcome, alone: &Outcome, what: &str) {
    assert_eq!(found.error, None, "{what}");
    assert!(found.report == alone.report, "{what}: the reports differ");
    assert!(found.model == alone.model, "{what}: the models differ");
}

#[test]
fn several_processes_fit_what_one_fits() {
    let jobs = [
        job(mlp(), json!({"members": 5, "epochs": 6, "batch_size": 16})),
        // Through libtorch's operations; a learning rate that follows the held-out rows; more processes than networks.
        job(
            noisy_network(),
            json!({"members": 2, "epochs": 4, "batch_size": 32, "learning_rate": 0.01, "schedule": {"kind": "plateau", "patience": 1}}),
        ),
        job(mlp(), json!({"members": 1, "epochs": 6, "batch_size": 16})),
    ];
    // In a process as well, of as many threads: libtorch's sums depend on them.
    let alone: Vec<Outcome> = processes(RANK, &[jobs.to_vec()]).swap_remove(0);
    assert!(alone.iter().all(|outcome| outcome.error.is_none()), "{alone:?}");
    for size in [2, 3] {
        for (rank, found) in by_ranks(size, &jobs, |_, _| {}).iter().enumerate() {
            for (number, (found, alone)) in found.iter().zip(&alone).enumerate() {
                assert_same(found, alone, &format!("job {number}, rank {rank} of {size}"));
                assert!(found.heard.iter().all(|part| (0.0..=1.0).contains(part)), "{:?}", found.heard);
                assert_eq!(found.heard.last(), Some(&1.0));
            }
        }
    }
}

#[test]
fn a_fit_that_one_process_stops_goes_on_with_another_number_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let whole = [5, 1].map(|members| job(mlp(), json!({"members": members, "epochs": 6, "batch_size": 16})));
    let alone = whole.clone().map(|job| attempt(&job));
    let mut kept = whole;
    for job in &mut kept {
        job.options["checkpoint"] = json!(folder.path().join(format!("{}.biv", job.options["members"])));
    }
    // The last process has no network of the fit of one.
    for (size, stopping, epoch) in [(3, 2, 2), (2, 1, 4)] {
        let stopped = by_ranks(size, &kept, |rank, job| {
            job.event = Some((epoch, Event::Stop)).filter(|_| rank == stopping);
            if rank > 0 {
                // Only the first process's file counts.
                job.options["checkpoint"] = json!("/nowhere/to/be/found.biv");
            }
        });
        for outcome in stopped.iter().flatten() {
            assert_eq!(outcome.error, Some(format!("the fit was stopped after epoch {epoch}")));
        }
    }
    for (kept, alone) in kept.iter().zip(&alone) {
        let gone_on = attempt(kept);
        assert_same(&gone_on, alone, "after two stops");
        assert!(gone_on.heard[0] > 0.5, "{:?}", gone_on.heard);
    }
}

#[test]
fn a_process_that_fails_or_differs_is_named_to_the_others() {
    let whole = job(mlp(), json!({"members": 3, "epochs": 6, "batch_size": 16}));
    let ended = by_ranks(3, std::slice::from_ref(&whole), |rank, job| {
        job.event = Some((2, Event::Abort)).filter(|_| rank == 1);
    });
    assert!(ended[1].is_empty());
    for rank in [0, 2] {
        let error = ended[rank][0].error.as_deref().unwrap_or_default();
        assert!(error.contains("rank 1 does not answer: it has ended or is stopped"), "{error}");
    }
    let number = std::sync::atomic::AtomicUsize::new(0);
    let faults = vec![whole; 3];
    let differing = by_ranks(3, &faults, |rank, job| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % faults.len();
        match number {
            _ if rank != 1 => {}
            0 => job.options["epochs"] = json!(7),
            1 => job.model["seed"] = json!(7),
            _ => job.options["device"] = json!("cuda:99"),
        }
    });
    let errors = |rank: usize| -> Vec<&str> {
        differing[rank].iter().map(|outcome| outcome.error.as_deref().unwrap_or_default()).collect()
    };
    assert_eq!(errors(0)[0], "the ranks differ in fit.epochs (ranks 0, 2: 6; rank 1: 7)");
    assert_eq!(errors(0)[1], "the ranks differ in model.seed (ranks 0, 2: 0; rank 1: 7)");
    assert_eq!(errors(0)[2], format!("rank 1: {}", errors(1)[2]));
    assert_eq!(errors(0), errors(2));
    assert_eq!(errors(0)[..2], errors(1)[..2]);
}

#[test]
fn the_program_fits_with_several_processes_and_one_of_them_writes_and_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let rows = (0..120).map(|row| {
        let x = f64::from(row) / 20.0;
        format!("{x},{},{}\n", x.sin() + f64::from(row % 7) / 10.0, 0.1 + f64::from(row % 3))
    });
    std::fs::write(path("data.csv"), format!("x,y,sd\n{}", rows.collect::<String>())).unwrap();
    let fit = ["fit", &path("data.csv"), "--label=y", "--std=sd", "--members=3", "--epochs=3", "--batch-size=32"];
    let run = ["run", &path("run.toml")];
    let description = "dataset = { kind = 'synthetic', train_size = 120, test_size = 60 }\nepochs = 3\nbatch_size = 32\n\
        model = { kind = 'mlp', hidden = [8] }\nfit = { members = 3 }\n\
        noise = { distribution = { kind = 'uniform', low = 0, high = 1 } }\n";
    std::fs::write(path("run.toml"), description).unwrap();
    for (name, arguments, files) in
        [("fit", &fit[..], &["model.biv", "fit.json", "columns.json"][..]), ("run", &run, &["model.biv", "fit.json"])]
    {
        let [one, two] = [path(&format!("{name}-1")), path(&format!("{name}-2"))];
        stdout(&[arguments, &["--out", &one]].concat());
        let port = free_ports(1)[0].to_string();
        let children = [0, 1].map(|rank| {
            let place = [
                ("RANK", &*rank.to_string()),
                ("WORLD_SIZE", "2"),
                ("MASTER_ADDR", "127.0.0.1"),
                ("MASTER_PORT", &port),
            ];
            let mut command = biv(&[arguments, &["--out", &two]].concat());
            command.envs(place).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        });
        for (rank, child) in children.into_iter().enumerate() {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "rank {rank}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.stdout.is_empty() && output.stderr.is_empty(), rank > 0);
        }
        for file in files {
            let [one, two] = [&one, &two].map(|out| std::fs::read(Path::new(out).join(file)).unwrap());
            assert!(one == two, "{name}: {file} differs");
        }
        assert!(Path::new(&two).join("report.html").exists());
    }
}
